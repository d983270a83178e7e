"""The items table cut into chunks, for a store of keys: their sizes and checksums. No I/O."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from gkc.errors import GenerationCorruptError
from gkc.store.generation import GenerationLayout, GenerationManifest
from gkc.store.table_format import TableShape


class ChunkSizes:
    """Where the chunks of a table begin and end.

    Attributes
    ----------
    count : int
    chunk_bytes : int
        Of each but the last one.
    size_bytes : int
        Of the table.
    """

    def __init__(self, shape: TableShape, layout: GenerationLayout) -> None:
        self.size_bytes = shape.size_bytes()
        self.chunk_bytes = layout.chunk_bytes
        self.count = layout.item_chunks

    def size(self, number: int) -> int:
        """Return the bytes of a chunk."""
        return min(self.chunk_bytes, self.size_bytes - number * self.chunk_bytes)

    def parts(self, offset: int, size: int) -> Iterator[tuple[int, int, int]]:
        """Yield, for a range of the table's bytes, chunk by chunk: number, offset in it, bytes."""
        while size:
            number, at = divmod(offset, self.chunk_bytes)
            length = min(size, self.chunk_bytes - at)
            yield number, at, length
            offset, size = offset + length, size - length


class Chunks(ChunkSizes):
    """The chunks of a sealed generation, and how to tell that one is what it was.

    Raises
    ------
    GenerationCorruptError
        If the manifest knows of none.
    """

    def __init__(self, manifest: GenerationManifest) -> None:
        super().__init__(manifest.spec.item_shape, manifest.layout)
        self._generation = manifest.generation
        self._crc32s: list[int] = np.frombuffer(manifest.chunk_crc32s, dtype="<u4").tolist()
        if len(self._crc32s) != self.count:
            raise GenerationCorruptError(self._generation, "its manifest names no chunks of items")

    def check(self, number: int, raw: bytes) -> None:
        """Raise GenerationCorruptError if a chunk is not what was stored."""
        if not self.is_whole(number, raw):
            what = f"chunk {number} of its items is damaged: {len(raw)} bytes, another checksum"
            raise GenerationCorruptError(self._generation, what)

    def is_whole(self, number: int, raw: bytes) -> bool:
        """Tell whether a chunk is what was stored."""
        return len(raw) == self.size(number) and zlib.crc32(raw) == self._crc32s[number]
