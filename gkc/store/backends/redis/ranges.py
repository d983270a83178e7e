"""A few items out of the chunks of the items table, by ranges of bytes: no mirror is needed.

The table's look-up in three steps, each one round trip for up to a hundred items: where the bucket
of each begins and ends, the ids in it, and the columns of the row that has the id. Of strings, all
those in the bucket are read: where they are, then their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import numpy as np

from gkc.arrays import I64
from gkc.errors import GenerationCorruptError
from gkc.id_index import keys_of
from gkc.store.backends.redis.client import Command
from gkc.store.backends.redis.generation_reads import GenerationReads
from gkc.store.chunks import Chunks
from gkc.store.codec import ItemBlock
from gkc.store.few_items import table_of_items
from gkc.store.generation import GenerationManifest
from gkc.store.ids import hashes_of
from gkc.store.table import ItemTable
from gkc.store.table_format import bucket_bits
from gkc.strings import Ids, StringIds

_RANGES_AT_ONCE: Final = 300
_COLUMNS: Final = ("categories", "has_category", "rows")

Place = tuple[str, int, int]
"""Elements of a section: its name, the first one, and how many."""


class ItemRanges:
    """Reads items of one generation.

    Parameters
    ----------
    manifest : GenerationManifest
    reads : GenerationReads
    """

    def __init__(self, manifest: GenerationManifest, reads: GenerationReads) -> None:
        self._manifest = manifest
        self._reads = reads
        self._chunks = Chunks(manifest)
        self._offsets = manifest.spec.item_shape.offsets()
        stride = manifest.spec.vector_stride
        self._widths = {
            "starts": 4,
            "ids": 8,
            "categories": 8,
            "has_category": 1,
            "rows": stride,
            "id_offsets": 8,
            "id_bytes": 1,
            "category_offsets": 8,
            "category_bytes": 1,
        }

    async def read(self, items: Ids) -> ItemTable:
        """Return a table of those of some distinct items that are known.

        Raises
        ------
        GenerationCorruptError
            If a chunk is missing, or what it holds points outside the table.
        """
        found = await self._rows_of(items)
        known, rows = items[np.flatnonzero(found >= 0)], found[found >= 0].tolist()
        elements = await self._elements([(name, row, 1) for name in _COLUMNS for row in rows])
        categories, has_category, k_i = (
            b"".join(elements[k * len(rows) : (k + 1) * len(rows)]) for k in range(len(_COLUMNS))
        )
        block = ItemBlock(
            ids=keys_of(known) if isinstance(known, StringIds) else known,
            names=known.tolist() if isinstance(known, StringIds) else None,
            k_i=np.frombuffer(k_i, dtype=np.uint8).reshape(len(rows), self._widths["rows"]),
            categories=np.frombuffer(categories, dtype="<i8"),
            has_category=np.frombuffer(has_category, dtype=np.uint8).astype(np.bool_),
        )
        return table_of_items(self._manifest, block, await self._dictionary())

    async def _dictionary(self) -> list[bytes]:
        """Read all categories, where they are strings."""
        spec = self._manifest.spec
        if spec.category_id_type != "string":
            return []
        return await self._strings("category", [(0, spec.categories)])

    async def _strings(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read some spans of strings, each from its first one to before its last."""
        size = self._manifest.spec.item_shape.lengths()[f"{name}_bytes"]
        offsets = [
            np.frombuffer(raw, dtype="<i8").astype(np.int64)
            for raw in await self._elements(
                [(f"{name}_offsets", start, end - start + 1) for start, end in spans]
            )
        ]
        if any(o[0] < 0 or o[-1] > size or (np.diff(o) < 0).any() for o in offsets):
            raise self._outside(f"{name}_offsets")
        texts = await self._elements(
            [(f"{name}_bytes", int(o[0]), int(o[-1] - o[0])) for o in offsets]
        )
        return [
            string
            for raw, o in zip(texts, offsets, strict=True)
            for string in StringIds(np.frombuffer(raw, dtype=np.uint8), o - o[0]).tolist()
        ]

    def _outside(self, section: str) -> GenerationCorruptError:
        what = f"section {section} of its items points outside the table"
        return GenerationCorruptError(self._manifest.generation, what)

    async def _rows_of(self, items: Ids) -> I64:
        """Return the row of each item, -1 for unknown ones."""
        count = self._manifest.spec.items
        shift = np.uint64(64 - bucket_bits(count))
        buckets = (hashes_of(items) >> shift).tolist()
        spans = [
            np.frombuffer(raw, dtype="<u4").tolist()
            for raw in await self._elements([("starts", bucket, 2) for bucket in buckets])
        ]
        if any(not start <= end <= count for start, end in spans):
            raise self._outside("starts")
        among = await self._ids_in(spans)
        rows = [
            start + ids.index(item) if item in ids else -1
            for item, (start, _), ids in zip(items.tolist(), spans, among, strict=True)
        ]
        return np.array(rows, dtype=np.int64)

    async def _ids_in(self, spans: Sequence[tuple[int, int]]) -> list[list[Any]]:
        """Read the ids in some spans of rows."""
        if self._manifest.spec.item_id_type == "string":
            names = iter(await self._strings("id", spans))
            return [list(islice(names, end - start)) for start, end in spans]
        among = await self._elements([("ids", start, end - start) for start, end in spans])
        return [np.frombuffer(raw, dtype="<i8").tolist() for raw in among]

    async def _elements(self, places: Sequence[Place]) -> list[bytes]:
        """Read elements of sections, as many as may be in one round trip."""
        ranges_of = [
            list(self._chunks.parts(self._offsets[name] + at * width, count * width))
            for name, at, count in places
            for width in (self._widths[name],)
        ]
        ranges = [each for some in ranges_of for each in some]
        answers: list[Any] = []
        for first in range(0, len(ranges), _RANGES_AT_ONCE):
            commands: list[Command] = [
                ("GETRANGE", self._reads.keys.chunk(number), at, at + size - 1)
                for number, at, size in ranges[first : first + _RANGES_AT_ONCE]
            ]
            answers += await self._reads.run(commands)
        for (number, _, size), raw in zip(ranges, answers, strict=True):
            if len(raw) != size:
                what = f"chunk {number} of its items is missing or cut short"
                raise await self._reads.missing(what)
        rest = iter(answers)
        return [b"".join(next(rest) for _ in some) for some in ranges_of]
