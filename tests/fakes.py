"""Stand-ins that make the real thing fail on demand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence

from gkc.store import (
    Catalogue,
    GenerationManifest,
    ItemTable,
    KnowledgeReader,
    Progress,
    UserBlock,
)
from gkc.strings import Ids


class UnreliableReader:
    """A real reader whose operations fail, hang or wait on demand.

    Attributes
    ----------
    failures : dict of str to Exception
        What each named operation raises, for as long as it stands here.
    failures_once : dict of str to Exception
        The same, for one call.
    gates : dict of str to asyncio.Event
        What each named operation waits for first.
    catalogues : list of Catalogue or None
        Answered one after the other in place of the store's, the last one for ever.
    calls : Counter
        How often each operation was asked.
    """

    def __init__(self, reader: KnowledgeReader) -> None:
        self._reader = reader
        self.store = reader.store
        self.failures: dict[str, Exception] = {}
        self.failures_once: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.catalogues: list[Catalogue | None] = []
        self.calls: Counter[str] = Counter()

    async def catalogue(self) -> Catalogue | None:
        await self._pass("catalogue")
        if self.catalogues:
            return self.catalogues.pop(0) if len(self.catalogues) > 1 else self.catalogues[0]
        return await self._reader.catalogue()

    async def manifest(self, generation: str) -> GenerationManifest:
        await self._pass("manifest")
        return await self._reader.manifest(generation)

    async def item_table(self, manifest: GenerationManifest, memory_bytes: int) -> ItemTable:
        await self._pass("item_table")
        return await self._reader.item_table(manifest, memory_bytes)

    def has_changed(self, items: ItemTable) -> bool:
        return self._reader.has_changed(items)

    def scrub(self, items: ItemTable) -> Iterator[None]:
        self.calls["scrub"] += 1
        if "scrub" in self.failures_once:
            raise self.failures_once.pop("scrub")
        yield from self._reader.scrub(items)

    async def fetch_users(
        self, manifest: GenerationManifest, users: Ids
    ) -> Sequence[bytes | memoryview | None]:
        await self._pass("fetch_users")
        return await self._reader.fetch_users(manifest, users)

    async def items_of(self, manifest: GenerationManifest, items: Ids) -> ItemTable:
        await self._pass("items_of")
        return await self._reader.items_of(manifest, items)

    def users(self, manifest: GenerationManifest) -> AsyncIterator[UserBlock]:
        return self._reader.users(manifest)

    async def verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        await self._pass("verify")
        await self._reader.verify(manifest, progress)

    async def close(self) -> None:
        self.calls["close"] += 1
        await self._reader.close()

    async def _pass(self, operation: str) -> None:
        self.calls[operation] += 1
        if operation in self.gates:
            await self.gates[operation].wait()
        if operation in self.failures_once:
            raise self.failures_once.pop(operation)
        if operation in self.failures:
            raise self.failures[operation]
