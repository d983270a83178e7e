"""Publishing on top of any storage: stage, write, publish, evict, clean up after dead writers."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from gkc.errors import (
    NoOldCatalogueError,
    RecordError,
    StoreFullError,
    StoreUnavailableError,
    VersionBusyError,
)
from gkc.store import changes
from gkc.store.catalogue import Catalogue, GenerationEntry, read_catalogue
from gkc.store.changes import Retention
from gkc.store.generation import GenerationManifest, GenerationSpec
from gkc.store.old_format import read_old_catalogue
from gkc.store.protocol import Storage
from gkc.store.sink import GenerationSink, Lease

log = structlog.get_logger(__name__)

_SWAP_ATTEMPTS = 100
_SWAP_PAUSE_SECONDS = 0.02
_SWEEPER = "a sweeper"
_CLOCKS_APART_SECONDS = 2 * 3600
"""What the clocks of two hosts are apart at most: an hour too early here, one too late there."""


@dataclass(frozen=True, slots=True)
class Published:
    """What one publication did."""

    generation: str
    evicted: list[str]
    retired: list[str]


class Publisher:
    """Everything that changes a store: exports, pins, rollbacks, deletions and sweeping.

    Parameters
    ----------
    storage : Storage
        The backend; closed by `close`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._retired_since: dict[str, float] = {}
        self.store = storage.store

    def close(self) -> None:
        """Close the storage."""
        self._storage.close()

    def catalogue(self) -> Catalogue:
        """Read the catalogue; an empty one if there is none yet."""
        return self._stored()[1] or Catalogue()

    def check_export(self, version: str, max_versions: int) -> list[str]:
        """Name the versions that exporting ``version`` would evict, having checked that it may.

        Raises
        ------
        UnsafeStoreError
            If the store may lose what is published into it.
        VersionLimitError
            If every other version is pinned.
        VersionBusyError
            If another writer exports this version right now.
        """
        self._storage.check_safe()
        _, stored = self._stored()
        if stored is None:  # nobody writes yet, and a look makes no store
            return changes.plan_evictions(Catalogue(), version, max_versions)
        self._acquire(version, _holder()).release()
        return changes.plan_evictions(stored, version, max_versions)

    @contextmanager
    def stage(
        self,
        spec: GenerationSpec,
        *,
        max_versions: int,
        resume: bool,
        categories: Sequence[bytes] = (),
    ) -> Iterator[StagedGeneration]:
        """Hold the version's lease and a hidden generation to write into.

        ``categories`` are all of them in ascending order of their bytes, where they are strings.
        Whatever a dead writer left is swept first, except what ``resume`` goes on with. Leaving the
        block without publishing deletes what was written, also if the store is full. Only a store
        that went away or an interrupt by the user leaves it staged: for ``resume``, or for the next
        run to sweep.

        Raises
        ------
        VersionBusyError
            At once, if another writer exports this version.
        VersionLimitError
            If every other version is pinned.
        """
        holder = _holder()
        lease = self._acquire(spec.version, holder)
        try:
            kept = changes.resumable(self.catalogue(), spec) if resume else None
            self.sweep(version=spec.version, keep=kept)
            generation = self._enter(spec, kept, max_versions, lease.token, holder)
            try:
                sink = self._storage.open_sink(
                    generation, spec, lease, resume=kept is not None, categories=categories
                )
                staged = StagedGeneration(generation, sink, lease, resumed=kept is not None)
                with closing(sink):  # before it is deleted: what is open keeps its room
                    yield staged
            except BaseException as exc:
                if not _is_resumable(exc):
                    self._discard(generation, lease.token)
                raise
            if not staged.is_published:
                self._discard(generation, lease.token)
        finally:
            lease.release()

    def publish(
        self,
        staged: StagedGeneration,
        manifest: GenerationManifest,
        retention: Retention,
    ) -> Published:
        """Serve a sealed generation in place of the version's current one, by one swap.

        Raises
        ------
        LeaseLostError
            If this writer was fenced off.
        VersionLimitError
            If every other version has been pinned meanwhile.
        """
        self._storage.wait_for_replicas()
        staged.lease.check(staged.generation)
        evicted: list[str] = []

        def change(catalogue: Catalogue) -> Catalogue:
            after, names = changes.publish(
                catalogue,
                manifest,
                retention,
                token=staged.lease.token,
                published_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                now=time.time(),
            )
            evicted[:] = names
            return after

        after = self._update(change)
        staged.is_published = True
        log.info(
            "generation_published", version=manifest.spec.version, generation=staged.generation
        )
        return Published(staged.generation, evicted, list(after.in_state("retired")))

    def set_pinned(self, version: str, *, pinned: bool) -> Catalogue:
        """Pin or unpin a version."""
        return self._update(lambda c: changes.set_pinned(c, version, pinned=pinned))

    def rollback(self, version: str) -> Catalogue:
        """Swap a version's current and previous generation."""
        return self._update(lambda c: changes.rollback(c, version))

    def delete(self, version: str, grace_seconds: float) -> Catalogue:
        """Take a version out of service; `delete_retired` deletes its data after the grace."""
        return self._update(lambda c: changes.delete(c, version, time.time(), grace_seconds))

    def delete_retired(self, *, wait: bool) -> list[str]:
        """Delete retired generations whose grace period is over, and return their ids.

        With ``wait`` it first sleeps until that of every one retired by now is over: until this
        publisher has known it as retired for as long, or its time is past by two clocks off.
        """
        retired = self.catalogue().in_state("retired")
        if wait and retired:
            time.sleep(max(0.0, *(self._grace_left(g, e) for g, e in retired.items())))
        due = {g: e for g, e in retired.items() if self._grace_left(g, e) <= 0}
        if due:
            self._storage.wait_for_replicas()
        for generation, entry in due.items():
            self._storage.delete(generation, entry.layout)
            log.info("generation_deleted", generation=generation, version=entry.version)
        if due:
            self._update(lambda c: changes.forget(c, due))
        return list(due)

    def delete_old_format(self) -> list[str]:
        """Delete all that a gkc of format 1 left in this namespace, its catalogue last.

        Returns
        -------
        list of str
            The generations deleted.

        Raises
        ------
        NoOldCatalogueError
            If there is no catalogue of format 1.
        VersionBusyError
            If somebody writes one of its versions right now.
        """
        raw = self._storage.read_catalogue()
        try:
            old = read_old_catalogue(raw or b"")
        except RecordError as exc:
            raise NoOldCatalogueError(self.store) from exc
        with ExitStack() as held:
            for version in old.versions:
                held.callback(self._acquire(version, _holder()).release)
            for generation, layout in old.layouts.items():
                self._storage.delete(generation, layout)
                log.info("generation_deleted", generation=generation, format=1)
            if not self._storage.swap_catalogue(raw, None):
                raise StoreUnavailableError(self.store, "its catalogue changed meanwhile")
        return list(old.layouts)

    def sweep(self, version: str | None = None, keep: str | None = None) -> list[str]:
        """Delete what dead writers and earlier runs left; return the ids of generations deleted.

        Parameters
        ----------
        version : str, optional
            The version whose lease the caller holds: whatever else is staged of it is dead.
        keep : str, optional
            A staging generation to leave alone.
        """
        now = time.time()
        for generation, entry in self.catalogue().in_state("staging").items():
            if generation == keep:
                continue
            if entry.version == version:
                self._bury(generation)
                continue
            with suppress(VersionBusyError):  # its writer lives
                lease = self._storage.acquire_lease(entry.version, _SWEEPER)
                try:
                    self._bury(generation)
                finally:
                    lease.release()
        tombs = self.catalogue().in_state("abandoned")
        for generation, entry in tombs.items():
            self._storage.delete(generation, entry.layout)
        old = [g for g, e in tombs.items() if e.delete_after <= now]
        if old:
            self._update(lambda c: changes.forget(c, old))
        return list(tombs) + self.delete_retired(wait=False)

    def _grace_left(self, generation: str, entry: GenerationEntry) -> float:
        """Return for how many seconds a retired generation stays, whatever hosts' clocks say."""
        if time.time() - entry.delete_after >= _CLOCKS_APART_SECONDS:
            return 0.0
        return self._retired_since[generation] + entry.grace_seconds - time.monotonic()

    def _acquire(self, version: str, holder: str) -> Lease:
        """Take a version's lease; one who only looks whether it is free is waited for."""
        for _ in range(_SWAP_ATTEMPTS):
            try:
                return self._storage.acquire_lease(version, holder)
            except VersionBusyError as exc:
                if exc.holder != _SWEEPER:
                    raise
            time.sleep(_SWAP_PAUSE_SECONDS)
        raise VersionBusyError(version, _SWEEPER)

    def _bury(self, generation: str) -> None:
        """Turn what a dead writer staged into a tombstone; the caller holds its lease."""
        entry = self.catalogue().in_state("staging").get(generation)
        if entry is None:
            return
        log.info("dead_writer_swept", generation=generation, version=entry.version)
        self._abandon(generation, entry)

    def _abandon(self, generation: str, entry: GenerationEntry) -> None:
        # First its room, without which a full store would not take the catalogue.
        self._storage.free(generation, entry.layout)
        self._update(lambda c: changes.abandon(c, generation, time.time()))

    def _enter(
        self, spec: GenerationSpec, kept: str | None, max_versions: int, token: str, holder: str
    ) -> str:
        entered = [kept or ""]

        def change(catalogue: Catalogue) -> Catalogue:
            if kept is not None:
                return changes.adopt(catalogue, kept, token, holder)
            after, entered[0] = changes.begin(catalogue, spec, max_versions, token, holder)
            return after

        self._update(change)
        return entered[0]

    def _discard(self, generation: str, token: str) -> None:
        """Delete a generation that will not be published, unless another writer took it over."""
        entry = self.catalogue().generations.get(generation)
        if entry is None or entry.state == "published" or entry.token not in ("", token):
            return
        self._abandon(generation, entry)
        self._storage.delete(generation, entry.layout)
        self._update(lambda c: changes.forget(c, [generation]))

    def _stored(self) -> tuple[bytes | None, Catalogue | None]:
        """Read the catalogue: its bytes, and what they say; None twice if there is none."""
        raw = self._storage.read_catalogue()
        catalogue = read_catalogue(raw, self.store)
        if catalogue is not None:
            self._note_retired(catalogue)
        return raw, catalogue

    def _note_retired(self, catalogue: Catalogue) -> None:
        now = time.monotonic()
        for generation in catalogue.in_state("retired"):
            self._retired_since.setdefault(generation, now)

    def _update(self, change: Callable[[Catalogue], Catalogue]) -> Catalogue:
        """Apply a change by compare-and-swap, again and again while others get in between."""
        for _ in range(_SWAP_ATTEMPTS):
            raw, stored = self._stored()
            after = change(stored or Catalogue())
            if stored is not None and after.revision == stored.revision:
                return stored
            if self._storage.swap_catalogue(raw, after.to_bytes()):
                self._note_retired(after)
                return after
            time.sleep(_SWAP_PAUSE_SECONDS)
        raise StoreUnavailableError(
            self.store, "the catalogue changed under every one of our attempts"
        )


def _is_resumable(exc: BaseException) -> bool:
    """Tell whether what was written when this ended an export is left for a later one."""
    if isinstance(exc, StoreFullError):
        return False  # it would fill the store for all others
    return isinstance(exc, StoreUnavailableError | KeyboardInterrupt)


def _holder() -> str:
    """Say who we are, for people who find our lease."""
    return f"process {os.getpid()} on {socket.gethostname()}"


@dataclass(slots=True)
class StagedGeneration:
    """A hidden generation being written: where its rows go, and the lease that protects it.

    Attributes
    ----------
    generation : str
    sink : GenerationSink
    lease : Lease
    resumed : bool
        Whether an interrupted export of the same bundle is being finished.
    is_published : bool
    """

    generation: str
    sink: GenerationSink
    lease: Lease
    resumed: bool
    is_published: bool = False
