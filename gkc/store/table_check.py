"""Re-reading a whole table: checksums, order, and every pointer inside it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from gkc.arrays import I64
from gkc.errors import GenerationCorruptError, LayoutError
from gkc.store.protocol import Progress
from gkc.store.table_file import open_table
from gkc.store.table_format import PAGE_BYTES, Section, TableHeader, TableKind
from gkc.store.table_writer import RowOrder, StartsBuilder

_CHUNK_ROWS: Final = 16_384
_CHUNK_BYTES: Final = 4 << 20

Read = Callable[[int, int], bytes]
"""Reads so many bytes from an offset on; fewer only at the end."""


def verify_table(path: Path, kind: TableKind, generation: str, progress: Progress) -> TableHeader:
    """Re-read a table file: its header, order, pointers and checksums.

    It reads rather than maps, so its memory does not grow with the file.

    Parameters
    ----------
    path : Path
    kind : {"items", "users"}
    generation : str
        Whose table it must be.
    progress : callable
        Told how many more rows are checked.

    Returns
    -------
    TableHeader

    Raises
    ------
    GenerationCorruptError
        At the first thing that differs; names it.
    OSError
        If the file cannot be opened or read.
    """
    fd, header = open_table(path, kind, generation)
    try:
        check_table(header, lambda offset, size: os.pread(fd, size, offset), progress)
    except ValueError as exc:
        raise GenerationCorruptError(generation, f"file {path}: {exc}") from exc
    finally:
        os.close(fd)
    return header


def check_table(header: TableHeader, read: Read, progress: Progress) -> None:
    """Re-read a table from wherever it lies.

    Parameters
    ----------
    header : TableHeader
        As read from its first page.
    read : callable
    progress : callable
        Told how many more rows are checked.

    Raises
    ------
    ValueError
        At the first thing that differs; names it.
    """
    _TableCheck(header, read).run(progress)


class _SectionReader:
    """Reads one section from its beginning to its end and sums it up."""

    def __init__(self, read: Read, section: Section) -> None:
        self._read = read
        self._section = section
        self._done = 0
        self._crc32 = 0

    def read(self, size: int) -> bytes:
        parts = list(self.read_chunks(size))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_chunks(self, size: int) -> Iterator[bytes]:
        if not 0 <= size <= self._section.length - self._done:
            raise ValueError("a pointer leads outside its section")
        while size:
            data = self._read(self._section.offset + self._done, min(size, _CHUNK_BYTES))
            if not data:
                raise ValueError("ends before its last section")
            self._crc32 = zlib.crc32(data, self._crc32)
            self._done += len(data)
            size -= len(data)
            yield data

    def finish(self, name: str) -> None:
        for _ in self.read_chunks(self._section.length - self._done):
            pass
        if self._crc32 != self._section.crc32:
            raise ValueError(f"the checksum of section {name} differs")


class _TableCheck:
    """One pass over a table, every section read from its beginning to its end at the same time."""

    def __init__(self, header: TableHeader, read: Read) -> None:
        self._header = header
        self._read = read
        self._readers = {
            name: _SectionReader(read, section) for name, section in header.sections.items()
        }
        self._starts = StartsBuilder(header.count)
        self._order = RowOrder(header.kind, header.count, header.id_type)
        self._ends = {"id_offsets": 0, "offsets": 0}

    def run(self, progress: Progress) -> None:
        count = self._header.count
        for name in self._ends:
            if name in self._readers and self._int64s(name, 1)[0]:
                raise ValueError(f"section {name} does not begin at 0")
        self._check_dictionary()
        for row in range(0, count, _CHUNK_ROWS):
            rows = min(_CHUNK_ROWS, count - row)
            self._check_ids(self._int64s("ids", rows), row)
            if self._header.kind == "users":
                lengths = self._lengths("offsets", rows, row)
                for _ in self._readers["records"].read_chunks(int(lengths.sum())):
                    pass
            else:
                self._check_item_columns(rows, row)
            progress(rows)
        self._check_starts(self._starts.rest().tobytes(), count)
        for name, reader in self._readers.items():
            reader.finish(name)
        self._check_gaps()

    def _check_ids(self, ids: I64, row: int) -> None:
        names = self._names(len(ids), row) if self._header.id_type == "string" else None
        try:
            hashes = self._order.check(ids, names)
        except LayoutError as exc:
            raise ValueError(f"the ids after row {row}: {exc}") from exc
        self._order.take(hashes, names)
        self._check_starts(self._starts.add(hashes).tobytes(), row)

    def _names(self, rows: int, row: int) -> Sequence[bytes]:
        lengths = self._lengths("id_offsets", rows, row)
        return _cut(self._readers["id_bytes"].read(int(lengths.sum())), lengths)

    def _check_starts(self, expected: bytes, row: int) -> None:
        if self._readers["starts"].read(len(expected)) != expected:
            raise ValueError(f"section starts differs from the ids after row {row}")

    def _lengths(self, name: str, rows: int, row: int) -> I64:
        """Read where so many parts end, and return how long they are."""
        ends = self._int64s(name, rows)
        lengths: I64 = np.diff(ends, prepend=self._ends[name])
        if (lengths < 0).any():
            raise ValueError(f"what section {name} points to overlaps after row {row}")
        self._ends[name] = int(ends[-1])
        return lengths

    def _check_item_columns(self, rows: int, row: int) -> None:
        categories = self._int64s("categories", rows)
        has_category = np.frombuffer(self._readers["has_category"].read(rows), dtype=np.uint8)
        if self._header.category_type == "string":
            places = categories[has_category != 0]
            if ((places < 0) | (places >= self._header.categories)).any():
                raise ValueError(f"a category after row {row} is not in the dictionary")
        for _ in self._readers["rows"].read_chunks(rows * self._header.stride):
            pass

    def _check_dictionary(self) -> None:
        if "category_offsets" not in self._readers:
            return
        offsets = self._int64s("category_offsets", self._header.categories + 1)
        lengths: I64 = np.diff(offsets)
        if offsets[0] or (lengths < 0).any():
            raise ValueError("section category_offsets is out of order")
        names = _cut(self._readers["category_bytes"].read(int(offsets[-1])), lengths)
        if any(before >= after for before, after in pairwise(names)):
            raise ValueError("the dictionary of categories is out of order")

    def _check_gaps(self) -> None:
        """Check that nothing but zeros fills up the last page of the header and of each section."""
        if self._read(0, PAGE_BYTES) != self._header.to_page():
            raise ValueError("the first page is damaged behind the header")
        sections = sorted(self._header.sections.values(), key=lambda s: (s.offset, s.length))
        for section, following in pairwise(sections):
            end = section.offset + section.length
            if self._read(end, following.offset - end).strip(b"\0"):
                raise ValueError(f"the unused bytes from {end} on are not zeros")

    def _int64s(self, name: str, count: int) -> I64:
        return np.frombuffer(self._readers[name].read(8 * count), dtype="<i8")


def _cut(raw: bytes, lengths: I64) -> list[bytes]:
    ends = np.cumsum(lengths).tolist()
    return [raw[start:end] for start, end in pairwise([0, *ends])]
