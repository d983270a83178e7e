"""The Redis store's reading side. `layout` says how a generation lies in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from gkc.errors import GenerationCorruptError
from gkc.store.backends.redis.chunk_source import open_chunks
from gkc.store.backends.redis.client import WrongTypeError, is_wrong_type, no_catalogue
from gkc.store.backends.redis.faults import as_store_errors
from gkc.store.backends.redis.generation_reads import GenerationReads
from gkc.store.backends.redis.layout import catalogue_key
from gkc.store.backends.redis.pipe import ReadPipe
from gkc.store.backends.redis.ranges import ItemRanges
from gkc.store.backends.redis.user_records import UserRecords
from gkc.store.backends.redis.verify import read_users, verify_users
from gkc.store.catalogue import Catalogue, read_catalogue
from gkc.store.codec import UserBlock, ids_of
from gkc.store.daemon import in_daemon_thread
from gkc.store.generation import GenerationManifest, read_manifest, unpacked
from gkc.store.mirror import MirrorDirectory, default_mirror_dir
from gkc.store.protocol import Progress
from gkc.store.table import ItemTable
from gkc.store.urls import StoreUrl, require_namespace
from gkc.strings import Ids


class RedisReader:
    """Reads one namespace of a Redis store (a ``KnowledgeReader``).

    Parameters
    ----------
    where : StoreUrl
    namespace : str
        Which of the centers that share the store.
    mirror_dir : Path, optional
        Where this host keeps mirrors of item tables.
    timeout_ms : int
        Longest silence of the store while it owes an answer, and longest time to connect.

    Raises
    ------
    StoreUrlError
        If the URL or the namespace cannot be read.
    """

    def __init__(
        self,
        where: StoreUrl,
        namespace: str,
        *,
        mirror_dir: Path | None = None,
        timeout_ms: int = 1000,
    ) -> None:
        self.store = where.shown
        require_namespace(self.store, namespace)
        self._where = where
        self._namespace = namespace
        self._pipe, self._second_pipe = ReadPipe(where, timeout_ms), ReadPipe(where, timeout_ms)
        self._user_records = UserRecords(self.store, namespace, self._pipe, self._second_pipe)
        self._mirrors = MirrorDirectory(mirror_dir or default_mirror_dir(), self.store, namespace)

    async def catalogue(self) -> Catalogue | None:
        """Read the catalogue; None if this namespace has never had one."""
        catalogue = read_catalogue(await self._raw_catalogue(), self.store)
        if catalogue is not None:
            self._mirrors.tidy(catalogue)
        return catalogue

    async def manifest(self, generation: str) -> GenerationManifest:
        """Read a generation's manifest."""
        reads = self._reads(generation)
        (raw,) = await reads.run([("GET", reads.keys.manifest)])
        if raw is None:
            raise await reads.missing("its manifest is missing")
        return read_manifest(raw, generation)

    async def item_table(self, manifest: GenerationManifest, memory_bytes: int) -> ItemTable:
        """Map this host's mirror of a generation's items, building it first if there is none."""

        def copy() -> ItemTable:
            with open_chunks(self._where, self._namespace, manifest.generation) as chunks:
                return self._mirrors.open(manifest, chunks.read, memory_bytes)

        return await in_daemon_thread(copy)

    def has_changed(self, items: ItemTable) -> bool:
        """Tell whether somebody wrote to the mirror of a generation's items since it was read."""
        return items.file is not None and items.file.has_changed()

    def scrub(self, items: ItemTable) -> Iterator[None]:
        """Re-read the mirror of a generation's items, piece by piece."""
        return self._mirrors.scrub(items)

    def fetch_users(
        self, manifest: GenerationManifest, users: Ids
    ) -> Coroutine[Any, Any, Sequence[bytes | memoryview | None]]:
        """Read the records of distinct users; None for unknown ones."""
        return self._user_records.read(manifest, users)

    async def items_of(self, manifest: GenerationManifest, items: Ids) -> ItemTable:
        """Read a few distinct items by ranges, as a table of those that are known."""
        return await ItemRanges(manifest, self._reads(manifest.generation)).read(items)

    async def users(self, manifest: GenerationManifest) -> AsyncIterator[UserBlock]:
        """Read all users, a bucket at a time."""
        async for users in read_users(manifest, self._reads(manifest.generation)):
            ids = ids_of(users, manifest.spec.user_id_type)
            yield unpacked(manifest, ids, list(users.values()))

    async def verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        """Re-read all of a generation: counts, checksums, markers, order."""
        if await self.manifest(manifest.generation) != manifest:
            raise GenerationCorruptError(manifest.generation, "its manifest is another one")
        await verify_users(manifest, self._reads(manifest.generation), progress)

        def verify_items() -> None:
            with open_chunks(self._where, self._namespace, manifest.generation) as chunks:
                chunks.verify(manifest, progress)

        await asyncio.to_thread(verify_items)

    async def close(self) -> None:
        """Close connections, and stop building mirrors."""
        self._mirrors.stop()
        await self._pipe.close()
        await self._second_pipe.close()

    def _reads(self, generation: str) -> GenerationReads:
        return GenerationReads(self._pipe, self.store, self._namespace, generation)

    async def _raw_catalogue(self) -> bytes | None:
        key = catalogue_key(self._namespace)
        with as_store_errors(self.store):
            (answer,) = await self._pipe.run([("GET", key)])
            if isinstance(answer, redis.ResponseError):
                if not is_wrong_type(answer):
                    raise answer
                (kind,) = await self._pipe.run([("TYPE", key)])
                raise no_catalogue(self.store, WrongTypeError(key, kind)) from answer
        raw: bytes | None = answer
        return raw
