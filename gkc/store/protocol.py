"""What a backend must do: one protocol to read with, one to write with, and the types between them.

Rows are written and stored in the order of `hash_ids`, so that no step ever needs all ids at once:
the bucket of a user, the block of an item and the place of both in a table file follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from gkc.arrays import I64, U8, U64, Bools
from gkc.store.catalogue import Catalogue
from gkc.store.codec import UserBlock
from gkc.store.generation import GenerationLayout, GenerationManifest, GenerationSpec, Totals

_UINT64: Final = (1 << 64) - 1
Progress = Callable[[int], None]
"""Told how many more rows are done."""


def hash_ids(ids: I64) -> U64:
    """Mix ids so that any set of them spreads evenly over the 64-bit range.

    The mix is a bijection (the finaliser of splitmix64), so distinct ids have distinct hashes and
    one order. It is part of the stored format and never changes.

    Parameters
    ----------
    ids : ndarray, shape (n,), int64

    Returns
    -------
    ndarray, shape (n,), uint64
    """
    h = ids.astype(np.uint64)  # a fresh array: two's complement, as stored
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return h


def hash_id(one: int) -> int:
    """Return what `hash_ids` gives for one id."""
    h = one & _UINT64
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & _UINT64
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & _UINT64
    return h ^ (h >> 31)


@dataclass(frozen=True, slots=True)
class ItemBlock:
    """Items and what is stored of them.

    Attributes
    ----------
    ids : ndarray, shape (n,), int64
    k_i : ndarray, shape (n, stride), uint8
        Stored K_i of each item.
    categories : ndarray, shape (n,), int64
        Each item's own category; 0 where it has none.
    has_category : ndarray, shape (n,), bool
    """

    ids: I64
    k_i: U8
    categories: I64
    has_category: Bools


class ItemTable(Protocol):
    """All items of one generation, in memory-mapped form; safe to read from several threads."""

    size_bytes: int

    def rows_of(self, ids: I64) -> I64:
        """Return the row of each item, shape (n,), int64; -1 for items that were not exported."""
        ...

    def take(self, rows: I64) -> ItemBlock:
        """Return the items at these rows (none negative), copied out of the table."""
        ...

    def close(self) -> None:
        """Unmap the table; calling it again does nothing."""
        ...


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

        Runs long work in a thread. The table is faulted into memory ahead of the first request if
        it is no larger than ``memory_bytes``.
        """
        ...

    async def fetch_users(
        self, manifest: GenerationManifest, users: I64
    ) -> Sequence[bytes | memoryview | None]:
        """Read the records of distinct users, shape (n,), in one round trip; None for unknown.

        Every request waits for it, so it keeps the reader's timeout by itself: a second timer
        around it would cost as much as decoding the request.
        """
        ...

    async def fetch_items(
        self, manifest: GenerationManifest, items: I64
    ) -> tuple[ItemBlock, Bools]:
        """Read distinct items from the store itself, not from a mirror.

        Returns
        -------
        ItemBlock
            One row per asked item, zeros where unknown.
        ndarray, shape (n,), bool
            Which items are known.
        """
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


class Lease(Protocol):
    """The right to write one version, held until released or until its holder dies."""

    token: str

    def check(self, generation: str) -> None:
        """Raise LeaseLostError if the lease may have passed to another writer."""
        ...

    def release(self) -> None:
        """Give the lease back; calling it again does nothing."""
        ...


class GenerationSink(Protocol):
    """Takes the rows of one staging generation, each kind in ascending `hash_ids` order, once."""

    def written(self) -> Totals:
        """Return what is stored durably; on resuming, so many leading rows are skipped."""
        ...

    def write_items(self, block: ItemBlock) -> None:
        """Append items."""
        ...

    def write_users(self, block: UserBlock) -> None:
        """Append users with their pairs."""
        ...

    def seal(self) -> GenerationManifest:
        """Flush everything, store the manifest and return it; nothing can be written afterwards.

        Raises
        ------
        LayoutError
            If other counts were written than the spec promised.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections, sealed or not; what is stored stays."""
        ...


class Storage(Protocol):
    """The writing side of one store and namespace; synchronous, for commands."""

    store: str
    """The store's URL without secrets, for people."""

    def check_safe(self) -> None:
        """Raise UnsafeStoreError if the store may lose what is published into it."""
        ...

    def read_catalogue(self) -> Catalogue | None:
        """Read the catalogue; None if this namespace has never had one."""
        ...

    def swap_catalogue(self, expected: Catalogue | None, new: Catalogue) -> bool:
        """Replace the catalogue durably if it still is ``expected``; tell whether it was."""
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
        self, generation: str, spec: GenerationSpec, lease: Lease, *, resume: bool
    ) -> GenerationSink:
        """Start writing a generation, or go on with what an interrupted writer left of it."""
        ...

    def delete(self, generation: str, layout: GenerationLayout) -> None:
        """Delete all data of a generation by its known names; nothing happens if it is gone."""
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
