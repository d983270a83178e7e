"""Which generation answers for each version, following the catalogue in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import structlog

from gkc.answering.counting import Counting
from gkc.answering.reader import GuardedReader
from gkc.answering.scrubbing import Scrubbing
from gkc.center.generation import LoadedGeneration
from gkc.errors import (
    CatalogueLostError,
    GenerationCorruptError,
    OldCatalogueError,
    ServiceNotReadyError,
    StoreError,
    StoreUnavailableError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from gkc.logs import cause_of, unforeseen
from gkc.store import Catalogue, parse_store_url, succession
from gkc.strings import Ids, IdType, StringIds

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.02
_EARLIER_SECONDS: Final = 1.0
"""How long an earlier catalogue must be all that is read before it is followed."""
_ANY_USER: Final[Mapping[IdType, Ids]] = {
    "int64": np.zeros(1, dtype=np.int64),
    "string": StringIds.of([b"0"]),
}


@dataclass(frozen=True)
class Outage:
    """The catalogue cannot be read, or is lost: the same for every host of this store.

    Attributes
    ----------
    seconds : float
        For how long.
    is_reachable : bool
        Whether the store answers.
    cause : str
    """

    seconds: float
    is_reachable: bool
    cause: str


class Serving:
    """The versions that can be answered, each by one loaded generation.

    A request takes one snapshot of the map and keeps it. A version flips to a new generation by
    replacing the map, once the new one is loaded; until then the old one answers, unless the new
    one is damaged: then nothing does. Tables that nobody uses any more are unmapped when the last
    request that holds them ends.

    Parameters
    ----------
    reader : GuardedReader
        Its `watch` is told of each look.
    counting : Counting
    item_memory_bytes : int
        How much of all item tables together is faulted into memory ahead of requests.
    refresh_seconds : float
        Pause between two looks at the catalogue, while they find it.
    load_wait_seconds : float or None
        How long `wait_for_loads` waits at most; None: the caller's deadline ends it.

    Attributes
    ----------
    last_catalogue : Catalogue or None
        The last one that could be read, even if it is lost by now.
    watch : StoreWatch
        What looks at it found lately.
    """

    def __init__(
        self,
        reader: GuardedReader,
        counting: Counting,
        *,
        item_memory_bytes: int,
        refresh_seconds: float,
        load_wait_seconds: float | None,
    ) -> None:
        self._reader = reader
        self.watch = reader.watch
        self._counting = counting
        self._item_memory_bytes = item_memory_bytes
        self._refresh_seconds = refresh_seconds
        self._load_wait_seconds = load_wait_seconds
        self.last_catalogue: Catalogue | None = None
        self._lost: str | None = None
        self._earlier: tuple[int, float] | None = None
        self._not_read: str | None = None
        self._was_read = False
        self._at_start: frozenset[str] = frozenset()
        self._has_started = False
        self._out_since: float | None = None
        self._loaded: Mapping[str, LoadedGeneration] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._not_loaded: dict[str, str] = {}
        self._reserved: dict[str, int] = {}
        self._reading = asyncio.Lock()
        self._reads: set[asyncio.Task[None]] = set()
        self._next_read: asyncio.Task[None] | None = None
        self._scrubbing = Scrubbing(reader, counting, lambda: self._loaded, self._withdraw)

    def catalogue(self) -> Catalogue | None:
        """Return the catalogue as last read; None if this namespace has never had one.

        Raises
        ------
        ServiceNotReadyError
            If nobody knows yet: the store was never read.
        CatalogueLostError
            If it was there and has vanished, or cannot be read as one.
        """
        if self._lost == OldCatalogueError.REASON:
            raise OldCatalogueError(self._reader.store)
        if self._lost is not None:
            raise CatalogueLostError(self._reader.store, self._lost)
        if not self._was_read:
            cause = f": {self._not_read}" if self._not_read else ""
            raise ServiceNotReadyError(f"store {self._reader.store} has not been read yet{cause}")
        return self.last_catalogue

    @property
    def loaded(self) -> Mapping[str, LoadedGeneration]:
        """What answers at this moment; nothing while the catalogue is lost. For any thread."""
        return self._loaded if self._lost is None else {}

    def is_loaded(self, version: str, generation: str) -> bool:
        """Tell whether this very generation answers for the version."""
        loaded = self._loaded.get(version)
        return loaded is not None and loaded.manifest.generation == generation

    def check_ready(self) -> None:
        """Check that every version there was at start can be served; at first, that there is one.

        What happens to the store later is no matter of this worker.

        Raises
        ------
        ServiceNotReadyError
            If not; says what is missing.
        CatalogueLostError
            If the catalogue is lost, and this worker has never been ready.
        """
        catalogue = self.last_catalogue if self._has_started else self.catalogue()
        if catalogue is None or not (catalogue.versions or self._has_started):
            where = parse_store_url(self._reader.store)
            if where.is_missing():
                raise ServiceNotReadyError(f"no store at {where.path} yet, waiting for an export")
            raise ServiceNotReadyError(f"store {where.shown} holds no version; export one")
        missing = (self._at_start & catalogue.versions.keys()) - self._loaded.keys()
        if missing or not (self._loaded or self._has_started):
            waiting = sorted(missing or catalogue.versions)
            causes = (self._not_loaded.get(catalogue.versions[v].current) for v in waiting)
            state = "; ".join([", ".join(waiting), *dict.fromkeys(filter(None, causes))])
            raise ServiceNotReadyError(f"versions still to be loaded: {state}")
        self._has_started = True

    def is_ready(self) -> bool:
        """Tell whether `check_ready` would pass."""
        try:
            self.check_ready()
        except (ServiceNotReadyError, CatalogueLostError):
            return False
        return True

    async def wait_until_ready(self) -> None:
        """Wait until `check_ready` passes; and a little for what was published since the last look.

        Who waits for that is to answer in the place of others, who may have it already.
        """
        while not self.is_ready():  # noqa: ASYNC110 - it depends on the catalogue, loads and files
            await asyncio.sleep(_LOOK_SECONDS)
        await self.wait_a_little()

    async def wait_a_little(self) -> None:
        """Wait until all that the catalogue names now is loaded, or for long enough."""
        with suppress(StoreError):  # which whoever asks is told
            await self.refresh()
            if self.last_catalogue is not None:
                await self.wait_for_loads(list(self.last_catalogue.versions))

    def outage(self) -> Outage | None:
        """Return since when the catalogue cannot be read, or is lost; None if it is there."""
        if self._out_since is None:
            return None
        failure = self.watch.failure
        cause = str(failure or f"catalogue of {self._reader.store}: {self._lost}")
        return Outage(time.monotonic() - self._out_since, failure is None, cause)

    async def resolve(self, versions: Sequence[str]) -> Mapping[str, LoadedGeneration]:
        """Return what answers for each version, and perhaps for others: one snapshot a request.

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
            self.watch.require_store()
            await self.refresh()
            self.check_loaded(versions)
        return self._loaded

    async def resolve_anew(self, versions: Sequence[str]) -> Mapping[str, LoadedGeneration]:
        """As `resolve`, from a catalogue read now, and waiting a little for what it names."""
        self.watch.require_store()
        await self.refresh()
        await self.wait_for_loads(versions)
        return await self.resolve(versions)

    async def wait_for_loads(self, versions: Sequence[str]) -> None:
        """Wait until what the catalogue names for these versions is loaded, or for long enough.

        Raises
        ------
        CatalogueLostError
            If the catalogue is lost meanwhile.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._load_wait_seconds):
                while loads := self._loads_of(versions):
                    # One that fails again and again is of no interest once another is named.
                    await asyncio.wait(loads, timeout=self._refresh_seconds)

    def _loads_of(self, versions: Sequence[str]) -> list[asyncio.Task[None]]:
        catalogue = self.catalogue()
        entries = catalogue.versions if catalogue else {}
        named = {entries[version].current for version in versions if version in entries}
        return [task for generation, task in self._loads.items() if generation in named]

    def check_loaded(self, versions: Sequence[str]) -> None:
        """Check that each version is known and loaded; raises as `resolve`."""
        catalogue = self.catalogue()
        for version in versions:
            if catalogue is None or version not in catalogue.versions:
                raise VersionNotFoundError(version, catalogue.newest_first() if catalogue else ())
            if version not in self._loaded:
                generation = catalogue.versions[version].current
                raise VersionNotReadyError(version, self._not_loaded.get(generation, ""))

    async def follow(self) -> None:
        """Look at the catalogue again and again, until cancelled; then let go of every table.

        What is served is re-read meanwhile.
        """
        scrubbing = asyncio.create_task(self._scrubbing.run())
        try:
            while True:
                try:
                    await self.refresh()
                except Exception as exc:  # the outermost loop: it goes on, whatever happens
                    self.watch.note_failed_look()
                    cause = cause_of(exc)
                    if cause != self._not_read:  # once, not at every look
                        log.warning("catalogue_not_read", cause=cause, exc_info=unforeseen(exc))
                    self._not_read = cause
                else:
                    self._not_read = None
                await asyncio.sleep(self.watch.pause(self._refresh_seconds))
        finally:
            tasks = [scrubbing, *self._reads, *self._loads.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._close_tables()

    def _close_tables(self) -> None:
        """Let go of every table; what one still lends would keep it mapped."""
        tables = [loaded.items for loaded in self._loaded.values()]
        self._loaded = {}
        for table in tables:
            table.close()

    async def refresh(self) -> None:
        """Read the catalogue and act on it; callers that come during a read share the next one.

        A caller that waits no longer leaves the read to the others.

        Raises
        ------
        StoreUnavailableError
            If the store does not answer; nothing changes then.
        """
        read = self._next_read
        if read is None:
            read = self._next_read = asyncio.create_task(self._read_catalogue())
            self._reads.add(read)
            read.add_done_callback(self._end_read)
        await asyncio.wait([read])
        read.result()

    def _end_read(self, read: asyncio.Task[None]) -> None:
        self._reads.discard(read)
        if not read.cancelled():
            read.exception()  # nobody may be left to take it

    async def _read_catalogue(self) -> None:
        async with self._reading:
            self._next_read = None  # who comes from now on wants a later one
            asked = time.monotonic()
            try:
                self._take(await self._reader.catalogue())
            except CatalogueLostError as exc:
                self._lose(exc.reason)
            except StoreUnavailableError as exc:
                self._note_outage(asked, exc)
                raise
            except Exception as exc:  # something in it that nobody foresaw: it is damaged
                self._counting.store_error("catalogue")
                reason = f"it cannot be read ({type(exc).__name__})"
                if reason != self._lost:
                    log.error("catalogue_not_understood", exc_info=exc)
                self._lose(reason)
            self._note_outage(asked)

    def _note_outage(self, asked: float, failure: StoreUnavailableError | None = None) -> None:
        """Keep in mind since when looks at the catalogue find none."""
        self.watch.note(asked, failure)
        if failure is None and self._lost is None:
            if self._out_since is not None:
                away_seconds = round(time.monotonic() - self._out_since, 1)
                log.info("catalogue_read_again", away_seconds=away_seconds)
            self._out_since = None
        elif self._out_since is None:
            self._out_since = asked

    def _take(self, catalogue: Catalogue | None) -> None:
        """Act on a catalogue just read."""
        self._was_read = True
        if catalogue is None:
            if self.last_catalogue is not None:
                if self._lost is None:
                    self._counting.store_error("catalogue")
                self._lose("it was there and has vanished")
            return
        if self._lost is not None:
            log.info("catalogue_found_again", revision=catalogue.revision)
        elif self.last_catalogue is not None and not self._follows(self.last_catalogue, catalogue):
            return
        self.last_catalogue, self._lost, self._earlier = catalogue, None, None
        if not self._has_started:
            self._at_start = frozenset(catalogue.versions)
        self._loaded = {v: g for v, g in self._loaded.items() if v in catalogue.versions}
        for version, entry in catalogue.versions.items():
            if not self.is_loaded(version, entry.current) and entry.current not in self._loads:
                task = asyncio.create_task(self._load(version, entry.current))
                self._loads[entry.current] = task

    def _follows(self, known: Catalogue, read: Catalogue) -> bool:
        """Tell whether to follow a catalogue, for which an earlier one has to stay for a while.

        A late replica shows one now and then; a store that was put back shows nothing else.
        """
        kind = succession(known, read)
        revisions = {"known_revision": known.revision, "found_revision": read.revision}
        if kind == "earlier":
            if self._earlier is None or self._earlier[0] != read.revision:
                self._earlier = read.revision, time.monotonic()
                self._counting.store_error("catalogue")
                log.error("catalogue_went_back", **revisions)
            if time.monotonic() - self._earlier[1] < _EARLIER_SECONDS:
                return False
            log.error("earlier_catalogue_followed", **revisions)
        elif kind == "other":
            self._counting.store_error("catalogue")
            log.error("other_catalogue_followed", **revisions)
        return True

    def _lose(self, reason: str) -> None:
        if self._lost != reason:
            log.error("catalogue_lost", store=self._reader.store, reason=reason)
        self._lost = reason

    async def _load(self, version: str, generation: str) -> None:
        """Load a generation, trying again while the catalogue wants it, and flip to it."""
        pause = _FIRST_PAUSE_SECONDS
        try:
            while self._wants(version, generation):
                try:
                    loaded = await self._open(generation)
                except Exception as exc:
                    if isinstance(exc, GenerationCorruptError):
                        self._unload(version)  # never silently the one before
                    self._not_loaded[generation] = (
                        str(exc)
                        if isinstance(exc, StoreError)
                        else "this worker's log says why (generation_not_loaded)"
                    )
                    log.warning(
                        "generation_not_loaded",
                        version=version,
                        generation=generation,
                        retry_seconds=pause,
                        cause=cause_of(exc),
                        exc_info=unforeseen(exc),
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
            self._not_loaded.pop(generation, None)

    def _withdraw(self, version: str, damaged: LoadedGeneration) -> None:
        """Answer no longer from a generation, until it can be loaded as at the first time."""
        if self._loaded.get(version) is damaged:
            self._unload(version)

    def _unload(self, version: str) -> None:
        self._loaded = {v: loaded for v, loaded in self._loaded.items() if v != version}

    def _wants(self, version: str, generation: str) -> bool:
        entry = self.last_catalogue.versions.get(version) if self.last_catalogue else None
        return entry is not None and entry.current == generation

    async def _open(self, generation: str) -> LoadedGeneration:
        manifest = await self._reader.manifest(generation)
        memory_left = self._memory_left()
        self._reserved[generation] = manifest.spec.item_shape.size_bytes()
        try:
            items = await self._reader.item_table(manifest, memory_left)
        finally:
            del self._reserved[generation]
        # Any user will do: one whose table or bucket is lost must not count as loaded.
        await self._reader.fetch_users(manifest, _ANY_USER[manifest.spec.user_id_type])
        return LoadedGeneration.of(manifest, items)

    def _memory_left(self) -> int:
        """Return the bytes of the memory budget that no table takes or will take."""
        taken = sum(loaded.items.size_bytes for loaded in self._loaded.values())
        return max(0, self._item_memory_bytes - taken - sum(self._reserved.values()))
