"""One moment of a store: which generation each version had, and a reader of just those."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from gkc.center.generation import LoadedGeneration
from gkc.center.plan import Records
from gkc.errors import GenerationNotFoundError, VersionNotFoundError
from gkc.store import (
    Catalogue,
    GenerationManifest,
    KnowledgeReader,
    UserBlock,
    open_reader,
    parse_store_url,
    require_store,
)
from gkc.strings import Ids

ResultT = TypeVar("ResultT")

_PREFAULTED_BYTES: Final = 4 << 30
"""Largest table of items that is brought into memory at once; of a larger one, pages as needed."""

_TICK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where a store is, and how it is read.

    Attributes
    ----------
    url, namespace : str
    mirror_dir : Path or None
        Where this host keeps copies of item tables of a store behind a network.
    timeout_ms : int
        Longest wait for one answer of the store; long, since nobody waits for a single row.
    """

    url: str = field(repr=False)  # it may hold a password
    namespace: str = "default"
    mirror_dir: Path | None = None
    timeout_ms: int = 30_000

    @property
    def is_mapped(self) -> bool:
        """Whether users are read from mapped files, which takes no round trip."""
        return parse_store_url(self.url).scheme == "file"

    def open(self) -> KnowledgeReader:
        """Open the store for reading."""
        return open_reader(
            self.url, self.namespace, mirror_dir=self.mirror_dir, timeout_ms=self.timeout_ms
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store served at one moment; can be sent to other processes.

    Attributes
    ----------
    address : StoreAddress
    generations : mapping of str to str
        The generation of each version, newest version first.
    """

    address: StoreAddress
    generations: Mapping[str, str]

    @classmethod
    def take(cls, address: StoreAddress) -> Snapshot:
        """Read a store's catalogue, once.

        Raises
        ------
        StoreError
            If it cannot be read.
        CommandError
            If the store is a directory that does not exist.
        """
        require_store(address.url)
        with closing(_LoopThread()) as loop:
            catalogue = loop.run(_catalogue(address)) or Catalogue()
        return cls(address, {v: catalogue.versions[v].current for v in catalogue.newest_first()})

    def generation(self, version: str) -> str:
        """Return a version's generation.

        Raises
        ------
        VersionNotFoundError
            If the store had no such version; names those that it had.
        """
        if version not in self.generations:
            raise VersionNotFoundError(version, list(self.generations))
        return self.generations[version]


class _LoopThread:
    """An event loop in a thread of its own: the caller's may run one, as a notebook's does."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._runner = asyncio.Runner()
        self._loop = self._thread.submit(self._runner.get_loop).result()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Return what a coroutine returns; Ctrl-C cancels it."""
        try:  # the work may have begun before submit returns, and Ctrl-C come by then
            future = self._thread.submit(self._runner.run, work)
            while not future.done():  # a signal just before an endless wait would not end it
                wait([future], _TICK_SECONDS)
            return future.result()
        except KeyboardInterrupt:
            for task in asyncio.all_tasks(self._loop):
                self._loop.call_soon_threadsafe(task.cancel)
            raise

    def close(self) -> None:
        """End the loop and the thread."""
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()


async def _catalogue(address: StoreAddress) -> Catalogue | None:
    reader = address.open()
    try:
        return await reader.catalogue()
    finally:
        await reader.close()


async def _next(blocks: AsyncIterator[UserBlock]) -> UserBlock | None:
    return await anext(blocks, None)


class SnapshotReader:
    """Reads the generations of a snapshot, for one thread.

    Parameters
    ----------
    snapshot : Snapshot
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._loop = _LoopThread()
        self._reader = snapshot.address.open()
        self._manifests: dict[str, GenerationManifest] = {}
        self._loaded: dict[str, LoadedGeneration] = {}

    def load(self, versions: Collection[str]) -> dict[str, LoadedGeneration]:
        """Return the generations of some versions, their items mapped.

        Raises
        ------
        VersionNotFoundError
            If the snapshot has no such version.
        StoreError
            If a generation cannot be read.
        """
        for version in versions:
            if version not in self._loaded:
                self._loaded[version] = self._loop.run(self._load(version))
        return {version: self._loaded[version] for version in versions}

    def fetch(self, manifest: GenerationManifest, users: Ids) -> Records:
        """Return the records of distinct users, None for one who is not there."""
        return self._loop.run(self._reader.fetch_users(manifest, users))

    def users(self, version: str) -> Iterator[UserBlock]:
        """Yield all users of a version's generation, some at a time."""
        blocks = self._reader.users(self.load([version])[version].manifest)
        while (block := self._loop.run(_next(blocks))) is not None:
            yield block

    def manifests(self, versions: Collection[str]) -> dict[str, GenerationManifest]:
        """Return the manifests of some versions, without their items.

        Raises
        ------
        VersionNotFoundError
            If the snapshot has no such version.
        StoreError
            If a manifest cannot be read.
        """
        return {version: self._loop.run(self._manifest(version)) for version in versions}

    def require_kept(self, versions: Collection[str]) -> None:
        """Check that the store still keeps the generations of some versions.

        Rows of others are of no use: what answers them now is something else.

        Raises
        ------
        GenerationNotFoundError
            If one was deleted meanwhile.
        """
        catalogue = self._loop.run(self._reader.catalogue()) or Catalogue()
        kept = catalogue.in_state("published", "retired")
        for version in versions:
            generation = self.snapshot.generation(version)
            if generation not in kept:
                raise GenerationNotFoundError(generation)

    def close(self) -> None:
        """Unmap items, and let go of connections and files."""
        for loaded in self._loaded.values():
            loaded.items.close()
        self._loop.run(self._reader.close())
        self._loop.close()

    async def _load(self, version: str) -> LoadedGeneration:
        manifest = await self._manifest(version)
        items = await self._reader.item_table(manifest, _PREFAULTED_BYTES)
        return LoadedGeneration.of(manifest, items)

    async def _manifest(self, version: str) -> GenerationManifest:
        if version not in self._manifests:
            generation = self.snapshot.generation(version)
            self._manifests[version] = await self._reader.manifest(generation)
        return self._manifests[version]
