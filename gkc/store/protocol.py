"""What a backend must do: one protocol to read with, one to write with.

Writing, from outside in: `Publisher.stage` gives a `StagedGeneration`; its `GenerationSink`, made
by `Storage.open_sink`, checks and counts rows and hands them to the backend's `StagedStore`
(`FileWriter`, `RedisWriter`), which lays tables into a `TableTarget` (`FileTarget`, `ChunkTarget`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Protocol

from gkc.store.catalogue import Catalogue
from gkc.store.codec import UserBlock
from gkc.store.generation import GenerationLayout, GenerationManifest, GenerationSpec
from gkc.store.sink import GenerationSink, Lease
from gkc.store.table import ItemTable
from gkc.strings import Ids

Progress = Callable[[int], None]
"""Told how many more rows are done."""


class KnowledgeReader(Protocol):
    """Reads one store and namespace. It has no way to change what the store holds.

    Every method raises StoreUnavailableError if the store does not answer; one that reads a
    generation raises GenerationNotFoundError if it was deleted and GenerationCorruptError if part
    of it is missing or damaged. A missing bucket or block is damage, never an unknown id.
    """

    store: str
    """The store's URL without secrets, for people."""

    async def catalogue(self) -> Catalogue | None:
        """Read the catalogue; None if this namespace has never had one.

        Raises
        ------
        CatalogueLostError
            If what is there is no catalogue.
        """
        ...

    async def manifest(self, generation: str) -> GenerationManifest:
        """Read a generation's manifest."""
        ...

    async def item_table(self, manifest: GenerationManifest, memory_bytes: int) -> ItemTable:
        """Map a generation's items, building this host's mirror of them first where there is none.

        What is mapped was found whole: by this process, or by another one since this host's start.
        Runs long work in a thread. The table is faulted into memory ahead of the first request if
        it is no larger than ``memory_bytes``.
        """
        ...

    def has_changed(self, items: ItemTable) -> bool:
        """Tell whether somebody wrote to what `item_table` mapped since that was found whole."""
        ...

    def scrub(self, items: ItemTable) -> Iterator[None]:
        """Re-read what look-ups in a generation rely on, as far as `item_table` mapped it.

        Has an element for each piece; may be gone through in any thread. What it finds damaged is
        opened or copied anew by `item_table`.
        """
        ...

    async def fetch_users(
        self, manifest: GenerationManifest, users: Ids
    ) -> Sequence[bytes | memoryview | None]:
        """Read the records of n distinct users, in one round trip; None for unknown ones.

        Every request waits for it, so it keeps the reader's timeout by itself: a second timer
        around it would cost as much as decoding the request.
        """
        ...

    async def items_of(self, manifest: GenerationManifest, items: Ids) -> ItemTable:
        """Read a few distinct items from the store itself, as a table of those that are known.

        No mirror is built for it; a table of all items is faster from some thousands on.
        """
        ...

    def users(self, manifest: GenerationManifest) -> AsyncIterator[UserBlock]:
        """Read all users, a bounded number of bytes at a time; each record is checked."""
        ...

    async def verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        """Re-read all of a generation: counts, checksums, markers, order; ``progress`` counts rows.

        Raises
        ------
        GenerationCorruptError
            At the first thing that is missing or differs; names it.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...


class Storage(Protocol):
    """The writing side of one store and namespace; synchronous, for commands."""

    store: str
    """The store's URL without secrets, for people."""

    def check_safe(self) -> None:
        """Raise StoreError if the store may lose what is published into it, or not take it all."""
        ...

    def read_catalogue(self) -> bytes | None:
        """Read the bytes of whatever catalogue is there; None if there is none."""
        ...

    def swap_catalogue(self, expected: bytes | None, new: bytes | None) -> bool:
        """Replace the catalogue's bytes durably if they still are ``expected``; tell whether.

        None stands for no catalogue; as ``new``, it deletes the one that is there.
        """
        ...

    def acquire_lease(self, version: str, holder: str) -> Lease:
        """Become the one writer of a version.

        Raises
        ------
        VersionBusyError
            At once, if a living writer holds it.
        """
        ...

    def open_sink(
        self,
        generation: str,
        spec: GenerationSpec,
        lease: Lease,
        *,
        resume: bool,
        categories: Sequence[bytes] = (),
    ) -> GenerationSink:
        """Start writing a generation, or go on with what an interrupted writer left of it."""
        ...

    def delete(self, generation: str, layout: GenerationLayout) -> None:
        """Delete all data of a generation by its known names; nothing happens if it is gone.

        It may be one that an earlier gkc wrote, in format 1.
        """
        ...

    def free(self, generation: str, layout: GenerationLayout) -> None:
        """Give back what a staged generation takes, before the catalogue is told of it.

        Its lease is the caller's or nobody's. Does nothing where a full store takes a catalogue all
        the same, or where a writer without its lease may yet publish.
        """
        ...

    def wait_for_replicas(self) -> None:
        """Return when replicas, where there are any, have all that was written.

        Raises
        ------
        StoreUnavailableError
            If they do not catch up in time.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...
