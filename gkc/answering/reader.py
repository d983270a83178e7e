"""The store as questions read it: with a deadline, timed, and with every failure counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from gkc.answering.counting import Counting
from gkc.answering.store_watch import StoreWatch
from gkc.center.plan import Records
from gkc.errors import StoreUnavailableError
from gkc.store import Catalogue, GenerationManifest, ItemTable, KnowledgeReader
from gkc.strings import Ids


class GuardedReader:
    """What answering reads of a store, around a `KnowledgeReader`.

    Parameters
    ----------
    reader : KnowledgeReader
    counting : Counting
    timeout_seconds : float
        Longest wait for one read; item tables, which may have to be copied first, take as long as
        they take.
    stale_seconds : float
        As of `StoreWatch`.

    Attributes
    ----------
    watch : StoreWatch
        Whether questions are to wait for the store.
    """

    def __init__(
        self,
        reader: KnowledgeReader,
        counting: Counting,
        timeout_seconds: float,
        stale_seconds: float,
    ) -> None:
        self._reader = reader
        self._counting = counting
        self._timeout_seconds = timeout_seconds
        self.store = reader.store
        self.watch = StoreWatch(self.store, stale_seconds)

    async def catalogue(self) -> Catalogue | None:
        """Read the catalogue."""
        async with self._guarded("catalogue"):
            return await self._reader.catalogue()

    async def manifest(self, generation: str) -> GenerationManifest:
        """Read a generation's manifest."""
        async with self._guarded("manifest"):
            return await self._reader.manifest(generation)

    async def item_table(self, manifest: GenerationManifest, memory_bytes: int) -> ItemTable:
        """Map a generation's items; without a deadline."""
        with self._counting.store_operation("item_table"):
            return await self._reader.item_table(manifest, memory_bytes)

    def has_changed(self, items: ItemTable) -> bool:
        """Tell whether somebody wrote to what is mapped of a generation."""
        return self._reader.has_changed(items)

    def scrub(self, items: ItemTable) -> Iterator[None]:
        """Re-read what is mapped of a generation, piece by piece; in any thread."""
        return self._reader.scrub(items)

    async def fetch_users(self, manifest: GenerationManifest, users: Ids) -> Records:
        """Read the records of distinct users; only a silent store ends this one, or its caller."""
        self.watch.require_users(len(users), len(users))
        with self._counting.store_operation("fetch_users"):
            return await self._reader.fetch_users(manifest, users)

    async def close(self) -> None:
        """Close the reader inside."""
        await self._reader.close()

    @asynccontextmanager
    async def _guarded(self, operation: str) -> AsyncIterator[None]:
        with self._counting.store_operation(operation):
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    yield
            except TimeoutError as exc:
                waited = f"no answer within {self._timeout_seconds * 1000:.0f} ms"
                raise StoreUnavailableError(self.store, waited) from exc
