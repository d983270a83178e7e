"""Writing and checking table files, block by block, in memory that does not grow with the table."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from gkc.arrays import I64, U64
from gkc.errors import GenerationImmutableError, LayoutError
from gkc.store.protocol import ItemBlock, hash_ids
from gkc.store.table import (
    PAGE_BYTES,
    WINDOW,
    Section,
    TableHeader,
    TableKind,
    bucket_bits,
    starts_dtype,
)

_READ_ONLY: Final = 0o444
_HUGE_PAGE_BYTES: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class TableProgress:
    """How much of an unfinished table is on disk, enough to go on writing it.

    Attributes
    ----------
    rows : int
    sections : mapping of str to (int, int)
        Bytes written of each section, and their CRC-32.
    """

    rows: int
    sections: Mapping[str, tuple[int, int]]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build it from what ``dataclasses.asdict`` and JSON made of one."""
        sections = {name: (length, crc) for name, (length, crc) in value["sections"].items()}
        return cls(rows=value["rows"], sections=sections)


class _SectionStream:
    """Appends to one section of a file that is written section by section.

    What is appended is written in pieces that end where a huge page of the file does: the kernel
    then keeps it in huge pages (on file systems with large folios), in which random rows are found
    faster (``python -m bench.huge_pages``).
    """

    def __init__(self, fd: int, offset: int, progress: tuple[int, int] = (0, 0)) -> None:
        self._fd = fd
        self.offset = offset
        self.length, self.crc32 = progress
        self._pending = bytearray()

    def append(self, data: bytes | npt.NDArray[np.generic]) -> None:
        """Take bytes behind the others, and write what fills huge pages."""
        if not len(data):
            return
        view = memoryview(data if isinstance(data, bytes) else data.data).cast("B")
        self.crc32 = zlib.crc32(view, self.crc32)
        self.length += len(view)
        self._pending += view
        beyond = (self.offset + self.length) % _HUGE_PAGE_BYTES
        if beyond < len(self._pending):
            self._write(len(self._pending) - beyond)

    def flush(self) -> None:
        """Write all that was appended."""
        self._write(len(self._pending))

    def _write(self, size: int) -> None:
        at = self.offset + self.length - len(self._pending)
        with memoryview(self._pending) as pending:
            written = 0
            while written < size:
                written += os.pwrite(self._fd, pending[written:size], at + written)
        del self._pending[:size]


class StartsBuilder:
    """The section ``starts`` of a table, from hashes that arrive in ascending blocks."""

    def __init__(self, count: int, rows: int = 0, emitted: int = 0) -> None:
        bits = bucket_bits(count)
        self._shift = np.uint64(64 - bits)
        self._size = (1 << bits) + 1
        self._dtype = starts_dtype(count)
        self._rows = rows
        self._emitted = emitted

    def add(self, hashes: U64) -> npt.NDArray[np.unsignedinteger]:
        """Return the entries that a block of hashes settles: up to the bucket of its last one."""
        buckets = (hashes >> self._shift).view(np.int64)
        wanted = np.arange(self._emitted, int(buckets[-1]) + 1, dtype=np.int64)
        starts = np.searchsorted(buckets, wanted) + self._rows
        self._rows += len(hashes)
        self._emitted += len(wanted)
        return starts.astype(self._dtype)

    def rest(self) -> npt.NDArray[np.unsignedinteger]:
        """Return the entries after the last row's bucket."""
        return np.full(self._size - self._emitted, self._rows, dtype=self._dtype)


class _TableWriter:
    """Writes one table file; the header last, so that nothing unfinished can be opened."""

    def __init__(
        self,
        path: Path,
        kind: TableKind,
        generation: str,
        count: int,
        stride: int,
        resume: TableProgress | None,
    ) -> None:
        self._kind: TableKind = kind
        self._generation = generation
        self._count = count
        self._stride = stride
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if resume else os.O_TRUNC)
        self._fd = os.open(path, flags, 0o644)
        self._is_finished = False
        self.rows = resume.rows if resume else 0
        done = resume.sections if resume else {}
        self._streams = {
            name: _SectionStream(self._fd, offset, done.get(name, (0, 0)))
            for name, offset in section_offsets(kind, count, stride).items()
        }
        emitted = self._streams["starts"].length // starts_dtype(count).itemsize
        self._starts = StartsBuilder(count, self.rows, emitted)
        self._last_hash = self._read_last_hash()

    @property
    def written_bytes(self) -> int:
        """Bytes written so far."""
        return sum(stream.length for stream in self._streams.values())

    def sync(self) -> TableProgress:
        """Make what was written durable and return what a later writer needs to go on from it."""
        self._flush()
        os.fsync(self._fd)
        sections = {name: (s.length, s.crc32) for name, s in self._streams.items()}
        return TableProgress(self.rows, sections)

    def finish(self) -> TableHeader:
        """Write the header, make the file durable and read-only, and close it.

        Raises
        ------
        LayoutError
            If another number of rows was written than the table was opened for.
        GenerationImmutableError
            If the file was finished before.
        """
        self._require_unfinished()
        if self.rows != self._count:
            raise LayoutError(
                f"{self.rows} {self._kind} were written of the {self._count} that were promised"
            )
        self._streams["starts"].append(self._starts.rest())
        self._streams["ids"].append(np.zeros(WINDOW, dtype="<i8"))
        self._flush()
        header = TableHeader(
            kind=self._kind,
            generation=self._generation,
            count=self._count,
            stride=self._stride,
            size_bytes=max(s.offset + s.length for s in self._streams.values()),
            sections={
                name: Section(s.offset, s.length, s.crc32) for name, s in self._streams.items()
            },
        )
        os.ftruncate(self._fd, header.size_bytes)
        os.fsync(self._fd)
        page = _SectionStream(self._fd, 0)
        page.append(header.to_page())
        page.flush()
        os.fchmod(self._fd, _READ_ONLY)
        os.fsync(self._fd)
        self._is_finished = True
        self.close()
        return header

    def close(self) -> None:
        """Close the file, finished or not; calling it again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, ids: I64, columns: Mapping[str, bytes | npt.NDArray[np.generic]]) -> None:
        """Append rows: their ids, and for each other section the bytes that belong to them."""
        self._require_unfinished()
        if not len(ids):
            return
        if self.rows + len(ids) > self._count:
            raise LayoutError(f"more than the {self._count} {self._kind} that were promised")
        hashes = hash_ids(ids)
        if int(hashes[0]) <= self._last_hash or not (hashes[1:] > hashes[:-1]).all():
            raise LayoutError(f"{self._kind} must come in ascending order of hash_ids, each once")
        self._streams["starts"].append(self._starts.add(hashes))
        self._streams["ids"].append(np.ascontiguousarray(ids, dtype="<i8"))
        for name, data in columns.items():
            self._streams[name].append(data)
        self._last_hash = int(hashes[-1])
        self.rows += len(ids)

    def _flush(self) -> None:
        for stream in self._streams.values():
            stream.flush()

    def _require_unfinished(self) -> None:
        if self._is_finished:
            raise GenerationImmutableError(self._generation)

    def _read_last_hash(self) -> int:
        if not self.rows:
            return -1
        at = self._streams["ids"].offset + 8 * (self.rows - 1)
        return int(hash_ids(np.frombuffer(os.pread(self._fd, 8, at), dtype="<i8"))[0])


class ItemTableWriter(_TableWriter):
    """Writes the table of a generation's items, in ascending order of `hash_ids`.

    Parameters
    ----------
    path : Path
        Made anew, or gone on with if ``resume`` is given.
    generation : str
    count : int
        How many items there will be.
    stride : int
        Bytes of one stored K_i.
    resume : TableProgress, optional
        What an interrupted writer of this very table had on disk.

    Raises
    ------
    OSError
        If the file cannot be made; also from every method that writes.
    """

    def __init__(
        self,
        path: Path,
        generation: str,
        count: int,
        stride: int,
        resume: TableProgress | None = None,
    ) -> None:
        super().__init__(path, "items", generation, count, stride, resume)

    def append(self, block: ItemBlock) -> None:
        """Append items.

        Raises
        ------
        LayoutError
            If they are out of order, too many, or of another width.
        GenerationImmutableError
            If the file is finished.
        """
        if block.k_i.shape != (len(block.ids), self._stride):
            raise LayoutError(
                f"items of shape {block.k_i.shape} in a table of {self._stride} bytes"
            )
        self._append(
            block.ids,
            {
                "categories": np.ascontiguousarray(block.categories, dtype="<i8"),
                "has_category": block.has_category.astype(np.uint8),
                "rows": np.ascontiguousarray(block.k_i),
            },
        )


class UserTableWriter(_TableWriter):
    """Writes the table of a generation's users, in ascending order of `hash_ids`.

    Parameters
    ----------
    path : Path
        Made anew, or gone on with if ``resume`` is given.
    generation : str
    count : int
        How many users there will be.
    resume : TableProgress, optional
        What an interrupted writer of this very table had on disk.

    Raises
    ------
    OSError
        If the file cannot be made; also from every method that writes.
    """

    def __init__(
        self, path: Path, generation: str, count: int, resume: TableProgress | None = None
    ) -> None:
        super().__init__(path, "users", generation, count, 0, resume)
        if not self._streams["offsets"].length:
            self._streams["offsets"].append(np.zeros(1, dtype="<i8"))

    def append(self, ids: I64, records: Sequence[bytes]) -> None:
        """Append users and their packed records.

        Raises
        ------
        LayoutError
            If they are out of order or too many.
        GenerationImmutableError
            If the file is finished.
        """
        lengths = np.fromiter(map(len, records), dtype=np.int64, count=len(ids))
        ends = self._streams["records"].length + np.cumsum(lengths, dtype=np.int64)
        self._append(ids, {"offsets": ends.astype("<i8"), "records": b"".join(records)})


def section_offsets(kind: TableKind, count: int, stride: int) -> dict[str, int]:
    """Return where each section of a table begins; the last one is as long as its rows make it."""
    starts = ((1 << bucket_bits(count)) + 1) * starts_dtype(count).itemsize
    lengths = {"starts": starts, "ids": 8 * (count + WINDOW)}
    if kind == "items":
        lengths |= {"categories": 8 * count, "has_category": count, "rows": count * stride}
    else:
        lengths |= {"offsets": 8 * (count + 1), "records": 0}
    offsets, end = {}, PAGE_BYTES
    for name, length in lengths.items():
        offsets[name] = end
        end += -(-length // PAGE_BYTES) * PAGE_BYTES
    return offsets
