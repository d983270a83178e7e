"""A few items out of the chunks of the items table, by ranges of bytes: no mirror is needed.

The table's look-up, three round trips for any number of items: where the bucket of each begins and
ends, the ids in it, and the columns of the row that has the id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import numpy as np

from gkc.arrays import I64
from gkc.errors import GenerationCorruptError, StoreError
from gkc.store.backends.redis.client import Command
from gkc.store.backends.redis.layout import GenerationKeys
from gkc.store.chunks import Chunks
from gkc.store.codec import ItemBlock
from gkc.store.few_items import table_of_items
from gkc.store.generation import GenerationManifest
from gkc.store.ids import hash_ids
from gkc.store.table import MemoryItemTable
from gkc.store.table_format import bucket_bits

_ITEMS_AT_ONCE: Final = 100

Run = Callable[[str, Sequence[Command]], Awaitable[list[Any]]]
Missing = Callable[[str, str], Awaitable[StoreError]]
Place = tuple[str, int, int]
"""Elements of a section: its name, the first one, and how many."""


class ItemRanges:
    """Reads items of one generation.

    Parameters
    ----------
    manifest : GenerationManifest
    keys : GenerationKeys
    run : callable
        Returns the answers to commands that read a generation.
    missing : callable
        Returns the error for something that is missing.
    """

    def __init__(
        self, manifest: GenerationManifest, keys: GenerationKeys, run: Run, missing: Missing
    ) -> None:
        self._manifest = manifest
        self._keys = keys
        self._run = run
        self._missing = missing
        self._chunks = Chunks(manifest)
        self._offsets = manifest.spec.item_shape.offsets()
        self._stride = manifest.spec.vector_stride
        self._widths = {
            "starts": 4,
            "ids": 8,
            "categories": 8,
            "has_category": 1,
            "rows": self._stride,
        }

    async def read(self, items: I64) -> MemoryItemTable:
        """Return a table of those of some distinct items that are known.

        Raises
        ------
        GenerationCorruptError
            If a chunk is missing, or what it holds points outside the table.
        """
        blocks = [
            await self._read_some(items[start : start + _ITEMS_AT_ONCE])
            for start in range(0, max(len(items), 1), _ITEMS_AT_ONCE)
        ]
        return table_of_items(
            self._manifest,
            ItemBlock(
                ids=np.concatenate([b.ids for b in blocks]),
                k_i=np.concatenate([b.k_i for b in blocks]),
                categories=np.concatenate([b.categories for b in blocks]),
                has_category=np.concatenate([b.has_category for b in blocks]),
            ),
        )

    async def _read_some(self, items: I64) -> ItemBlock:
        rows = await self._rows_of(items)
        known, rows = items[rows >= 0], rows[rows >= 0].tolist()
        names = ("categories", "has_category", "rows")
        found = await self._elements([(name, row, 1) for name in names for row in rows])
        categories, has_category, k_i = (
            b"".join(found[k * len(rows) : (k + 1) * len(rows)]) for k in range(3)
        )
        return ItemBlock(
            ids=known,
            k_i=np.frombuffer(k_i, dtype=np.uint8).reshape(len(rows), self._stride),
            categories=np.frombuffer(categories, dtype="<i8"),
            has_category=np.frombuffer(has_category, dtype=np.uint8).astype(np.bool_),
        )

    async def _rows_of(self, items: I64) -> I64:
        """Return the row of each item, -1 for unknown ones."""
        count = self._manifest.spec.items
        shift = np.uint64(64 - bucket_bits(count))
        buckets = (hash_ids(items) >> shift).tolist()
        ranges = [
            np.frombuffer(raw, dtype="<u4").tolist()
            for raw in await self._elements([("starts", bucket, 2) for bucket in buckets])
        ]
        if any(not start <= end <= count for start, end in ranges):
            what = "section starts of its items points outside the table"
            raise GenerationCorruptError(self._manifest.generation, what)
        among = await self._elements([("ids", start, end - start) for start, end in ranges])
        rows = []
        for item, (start, _), raw in zip(items.tolist(), ranges, among, strict=True):
            ids = np.frombuffer(raw, dtype="<i8").tolist()
            rows.append(start + ids.index(item) if item in ids else -1)
        return np.array(rows, dtype=np.int64)

    async def _elements(self, places: Sequence[Place]) -> list[bytes]:
        """Read elements of sections, all of them in one round trip."""
        parts = [
            list(self._chunks.parts(self._offsets[name] + at * width, count * width))
            for name, at, count in places
            for width in (self._widths[name],)
        ]
        wanted = [part for some in parts for part in some]
        commands: list[Command] = [
            ("GETRANGE", self._keys.chunk(number), at, at + size - 1) for number, at, size in wanted
        ]
        answers = await self._run(self._manifest.generation, commands)
        for (number, _, size), raw in zip(wanted, answers, strict=True):
            if len(raw) != size:
                what = f"chunk {number} of its items is missing or cut short"
                raise await self._missing(self._manifest.generation, what)
        rest = iter(answers)
        return [b"".join(next(rest) for _ in some) for some in parts]
