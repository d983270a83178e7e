"""Which generation answers for each version, following the catalogue in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import structlog

from gkc.errors import (
    CatalogueLostError,
    OldCatalogueError,
    ServiceNotReadyError,
    StoreError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from gkc.service.loaded import LoadedGeneration
from gkc.service.metrics import Metrics
from gkc.store import Catalogue, KnowledgeReader

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 30.0
_ANY_USER: Final = np.zeros(1, dtype=np.int64)


class Serving:
    """The versions that can be answered, each by one loaded generation.

    A request takes one snapshot of the map and keeps it. A version flips to a new generation by
    replacing the map, once the new one is loaded; until then the old one answers. Tables that
    nobody uses any more are unmapped when the last request that holds them ends.

    Parameters
    ----------
    reader : KnowledgeReader
    metrics : Metrics
    item_memory_bytes : int
        How much of all item tables together is faulted into memory ahead of requests.
    refresh_seconds : float
        Pause between two looks at the catalogue.
    load_wait_seconds : float
        How long a request whose generation was deleted waits for the next one to be loaded.
    """

    def __init__(
        self,
        reader: KnowledgeReader,
        metrics: Metrics,
        *,
        item_memory_bytes: int,
        refresh_seconds: float,
        load_wait_seconds: float,
    ) -> None:
        self._reader = reader
        self._metrics = metrics
        self._item_memory_bytes = item_memory_bytes
        self._refresh_seconds = refresh_seconds
        self._load_wait_seconds = load_wait_seconds
        self._catalogue: Catalogue | None = None
        self._lost: str | None = None
        self._went_back_to: int | None = None
        self._at_start: frozenset[str] | None = None
        self._loaded: Mapping[str, LoadedGeneration] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._reserved: dict[str, int] = {}
        self._reading = asyncio.Lock()
        self._reads = 0

    def catalogue(self) -> Catalogue | None:
        """Return the catalogue as last read; None if this namespace has never had one.

        Raises
        ------
        CatalogueLostError
            If it was there and has vanished, or cannot be read as one.
        """
        if self._lost == OldCatalogueError.REASON:
            raise OldCatalogueError(self._reader.store)
        if self._lost is not None:
            raise CatalogueLostError(self._reader.store, self._lost)
        return self._catalogue

    @property
    def last_catalogue(self) -> Catalogue | None:
        """The last catalogue that could be read, even if it is lost by now."""
        return self._catalogue

    def is_loaded(self, version: str, generation: str) -> bool:
        """Tell whether this very generation answers for the version."""
        loaded = self._loaded.get(version)
        return loaded is not None and loaded.manifest.generation == generation

    def check_ready(self) -> None:
        """Check that every version there was at start can be served, and that there is one.

        Raises
        ------
        ServiceNotReadyError
            If not; says what is missing.
        CatalogueLostError
            If the catalogue is lost.
        """
        catalogue = self.catalogue()
        if self._at_start is None:
            raise ServiceNotReadyError(f"store {self._reader.store} has not been read yet")
        if catalogue is None or not catalogue.versions:
            raise ServiceNotReadyError(f"store {self._reader.store} holds no version; export one")
        missing = (self._at_start & catalogue.versions.keys()) - self._loaded.keys()
        if missing or not self._loaded:
            waiting = ", ".join(sorted(missing or catalogue.versions))
            raise ServiceNotReadyError(f"versions still to be loaded: {waiting}")

    async def resolve(self, versions: Sequence[str]) -> Mapping[str, LoadedGeneration]:
        """Return the generation that answers for each version: one snapshot for one request.

        The catalogue is re-read once before a version counts as unknown.

        Raises
        ------
        VersionNotFoundError
            If the catalogue has no such version.
        VersionNotReadyError
            If it has, but nothing of it is loaded yet.
        CatalogueLostError, StoreUnavailableError
            If the catalogue is lost, or cannot be re-read.
        """
        if self._lost is not None or not self._loaded.keys() >= set(versions):
            await self.refresh()
            self._check_known(versions)
        loaded = self._loaded
        return {version: loaded[version] for version in versions}

    async def resolve_anew(self, versions: Sequence[str]) -> Mapping[str, LoadedGeneration]:
        """As `resolve`, from a catalogue read now, and waiting a little for what it names."""
        await self.refresh()
        catalogue = self.catalogue()
        entries = catalogue.versions if catalogue else {}
        wanted = {entries[version].current for version in versions if version in entries}
        loads = [task for generation, task in self._loads.items() if generation in wanted]
        if loads:
            await asyncio.wait(loads, timeout=self._load_wait_seconds)
        return await self.resolve(versions)

    def _check_known(self, versions: Sequence[str]) -> None:
        catalogue = self.catalogue()
        for version in versions:
            if catalogue is None or version not in catalogue.versions:
                raise VersionNotFoundError(version, catalogue.newest_first() if catalogue else ())
            if version not in self._loaded:
                raise VersionNotReadyError(version)

    async def follow(self) -> None:
        """Look at the catalogue again and again, until cancelled; then let go of every table."""
        try:
            while True:
                try:
                    await self.refresh()
                except StoreError as exc:
                    # Counted where it happened; what was served goes on being served.
                    log.warning("catalogue_not_read", cause=str(exc))
                await asyncio.sleep(self._refresh_seconds)
        finally:
            loads = list(self._loads.values())
            for task in loads:
                task.cancel()
            await asyncio.gather(*loads, return_exceptions=True)
            for loaded in self._loaded.values():
                loaded.items.close()

    async def refresh(self) -> None:
        """Read the catalogue and act on it; callers that come during a read share the next one.

        Raises
        ------
        StoreUnavailableError
            If the store does not answer; nothing changes then.
        """
        before = self._reads
        async with self._reading:
            if self._reads > before:
                return  # another caller's read began after this one was asked for
            self._reads += 1
            try:
                catalogue = await self._reader.catalogue()
            except CatalogueLostError as exc:
                self._lose(exc.reason)
                return
            self._take(catalogue)

    def _take(self, catalogue: Catalogue | None) -> None:
        """Act on a catalogue just read."""
        if catalogue is None:
            if self._catalogue is not None:
                if self._lost is None:
                    self._metrics.store_errors.labels("catalogue").inc()
                self._lose("it was there and has vanished")
            self._at_start = self._at_start or frozenset()
            return
        known = self._catalogue
        if known is not None and self._lost is None and catalogue.revision < known.revision:
            self._refuse_older(known.revision, catalogue.revision)
            return
        if self._lost is not None:
            log.info("catalogue_found_again", revision=catalogue.revision)
        self._catalogue, self._lost, self._went_back_to = catalogue, None, None
        if self._at_start is None:
            self._at_start = frozenset(catalogue.versions)
        self._loaded = {v: g for v, g in self._loaded.items() if v in catalogue.versions}
        for version, entry in catalogue.versions.items():
            if not self.is_loaded(version, entry.current) and entry.current not in self._loads:
                task = asyncio.create_task(self._load(version, entry.current))
                self._loads[entry.current] = task

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            log.error("catalogue_lost", store=self._reader.store, reason=reason)
        self._lost = reason

    def _refuse_older(self, known: int, found: int) -> None:
        """Keep serving what we have when the store shows an older state, such as an old backup."""
        if self._went_back_to != found:
            self._metrics.store_errors.labels("catalogue").inc()
            log.error("catalogue_went_back", known_revision=known, found_revision=found)
        self._went_back_to = found

    async def _load(self, version: str, generation: str) -> None:
        """Load a generation, trying again while the catalogue wants it, and flip to it."""
        pause = _FIRST_PAUSE_SECONDS
        try:
            while self._wants(version, generation):
                try:
                    loaded = await self._open(generation)
                except Exception as exc:
                    log.warning(
                        "generation_not_loaded",
                        version=version,
                        generation=generation,
                        retry_seconds=pause,
                        exc_info=None if isinstance(exc, StoreError) else exc,
                        cause=str(exc),
                    )
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                    continue
                if self._wants(version, generation):
                    self._loaded = {**self._loaded, version: loaded}
                    log.info("generation_loaded", version=version, generation=generation)
                return
        finally:
            del self._loads[generation]

    def _wants(self, version: str, generation: str) -> bool:
        entry = self._catalogue.versions.get(version) if self._catalogue else None
        return entry is not None and entry.current == generation

    async def _open(self, generation: str) -> LoadedGeneration:
        manifest = await self._reader.manifest(generation)
        self._reserved[generation] = manifest.spec.item_shape.size_bytes()
        try:
            items = await self._reader.item_table(manifest, self._memory_left(generation))
        finally:
            del self._reserved[generation]
        # Any user will do: one whose table or bucket is lost must not count as loaded.
        await self._reader.fetch_users(manifest, _ANY_USER)
        return LoadedGeneration.of(manifest, items)

    def _memory_left(self, generation: str) -> int:
        """Return the bytes of the memory budget that no other table takes or will take."""
        taken = sum(loaded.items.size_bytes for loaded in self._loaded.values())
        others = sum(size for g, size in self._reserved.items() if g != generation)
        return max(0, self._item_memory_bytes - taken - others)
