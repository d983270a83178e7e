"""Re-reading a whole table file from the disk: checksums, order, and every pointer inside it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from gkc.arrays import I64
from gkc.errors import GenerationCorruptError
from gkc.store.protocol import Progress, hash_ids
from gkc.store.table import PAGE_BYTES, WINDOW, Section, TableHeader, TableKind, open_table
from gkc.store.table_writer import StartsBuilder

_CHUNK_ROWS: Final = 16_384
_CHUNK_BYTES: Final = 4 << 20


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
        _TableCheck(fd, header).run(progress)
    except ValueError as exc:
        raise GenerationCorruptError(generation, f"file {path}: {exc}") from exc
    finally:
        os.close(fd)
    return header


class _SectionReader:
    """Reads one section from its beginning to its end and sums it up."""

    def __init__(self, fd: int, section: Section) -> None:
        self._fd = fd
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
            data = os.pread(self._fd, min(size, _CHUNK_BYTES), self._section.offset + self._done)
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
    """One pass over all sections of a table, row by row in step."""

    def __init__(self, fd: int, header: TableHeader) -> None:
        self._fd = fd
        self._header = header
        self._readers = {n: _SectionReader(fd, s) for n, s in header.sections.items()}
        self._starts = StartsBuilder(header.count)
        self._last_hash = -1
        self._last_offset = 0

    def run(self, progress: Progress) -> None:
        count = self._header.count
        if self._header.kind == "users" and self._int64s("offsets", 1)[0]:
            raise ValueError("the first record does not begin at 0")
        for row in range(0, count, _CHUNK_ROWS):
            rows = min(_CHUNK_ROWS, count - row)
            self._check_ids(self._int64s("ids", rows), row)
            if self._header.kind == "users":
                self._check_records(self._int64s("offsets", rows), row)
            else:
                self._skip_item_columns(rows)
            progress(rows)
        self._check_starts(self._starts.rest().tobytes(), count)
        self._readers["ids"].read(8 * WINDOW)
        for name, reader in self._readers.items():
            reader.finish(name)
        self._check_gaps()

    def _check_ids(self, ids: I64, row: int) -> None:
        hashes = hash_ids(ids)
        if int(hashes[0]) <= self._last_hash or not (hashes[1:] > hashes[:-1]).all():
            raise ValueError(f"the ids are out of order after row {row}")
        self._last_hash = int(hashes[-1])
        self._check_starts(self._starts.add(hashes).tobytes(), row)

    def _check_starts(self, expected: bytes, row: int) -> None:
        if self._readers["starts"].read(len(expected)) != expected:
            raise ValueError(f"section starts differs from the ids after row {row}")

    def _check_records(self, ends: I64, row: int) -> None:
        lengths = np.diff(ends, prepend=self._last_offset)
        if (lengths < 0).any():
            raise ValueError(f"the records overlap after row {row}")
        for _ in self._readers["records"].read_chunks(int(lengths.sum())):
            pass
        self._last_offset = int(ends[-1])

    def _skip_item_columns(self, rows: int) -> None:
        for name, width in (("categories", 8), ("has_category", 1), ("rows", self._header.stride)):
            for _ in self._readers[name].read_chunks(rows * width):
                pass

    def _check_gaps(self) -> None:
        """Check that nothing but zeros fills up the last page of the header and of each section."""
        if os.pread(self._fd, PAGE_BYTES, 0) != self._header.to_page():
            raise ValueError("the first page is damaged behind the header")
        sections = sorted(self._header.sections.values(), key=lambda s: s.offset)
        for section, following in pairwise(sections):
            end = section.offset + section.length
            if os.pread(self._fd, following.offset - end, end).strip(b"\0"):
                raise ValueError(f"the unused bytes from {end} on are not zeros")

    def _int64s(self, name: str, count: int) -> I64:
        return np.frombuffer(self._readers[name].read(8 * count), dtype="<i8")
