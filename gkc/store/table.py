"""The table file: an immutable, memory-mapped file of rows in ascending order of their ids' hashes.

One page of header, then sections that each begin on a page::

    starts        uint32 (uint64 from 2^32 rows on): for every bucket, the top bits of the hash, the
                  first row that is not before it; one entry more than there are buckets
    ids           int64 per row, then 8 of padding, so that any 8 ids from a row on can be read
    categories    int64 per row            items
    has_category  uint8 per row            items
    rows          stride bytes per row     items
    offsets       int64 per row, and one   users
    records       bytes                    users

The header is written last, so a file without a good one was never finished. A finished file is
never written to again; whoever has mapped it may go on reading after it was deleted.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt

from gkc.arrays import I64, U8
from gkc.errors import GenerationCorruptError, GenerationNotFoundError, StoreError
from gkc.kernels import kernels
from gkc.store.protocol import ItemBlock, hash_id, hash_ids

TableKind = Literal["items", "users"]

TABLE_FORMAT: Final = "gkc-table/1"
PAGE_BYTES: Final = 4096
WINDOW: Final = 8
"""Ids compared at once; a bucket has 1 to 2 ids on average, and seldom more than these."""

_MAGIC: Final = b"gkctable"
_PREFIX: Final = struct.Struct("<8sII")
_WINDOW_BITS: Final = 3
_FEW_IDS: Final = 8
"""So many ids are looked up one by one: a single id takes 3 us, and 17 us with numpy."""
_MADV_POPULATE_READ: Final = 22  # Linux 5.14; the mmap module has no name for it
_POPULATED_BYTES: Final = 16 << 20
"""Brought in at once: the kernel changes no other mapping of the process meanwhile."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Section:
    """Where a section lies in the file, and the CRC-32 of its bytes."""

    offset: int
    length: int
    crc32: int


@dataclass(frozen=True, slots=True)
class TableHeader:
    """What the first page of a table file says.

    Attributes
    ----------
    kind : {"items", "users"}
    generation : str
    count : int
        Rows.
    stride : int
        Bytes of one stored K_i; 0 in a table of users.
    size_bytes : int
        Of the whole file.
    sections : mapping of str to Section
    """

    kind: TableKind
    generation: str
    count: int
    stride: int
    size_bytes: int
    sections: Mapping[str, Section]

    def to_page(self) -> bytes:
        """Return the file's first page."""
        text = json.dumps({"format": TABLE_FORMAT, **asdict(self)}, sort_keys=True).encode()
        page = _PREFIX.pack(_MAGIC, len(text), zlib.crc32(text)) + text
        return page.ljust(PAGE_BYTES, b"\0")

    @property
    def crc32(self) -> int:
        """CRC-32 of the first page, and so, by the sections' checksums in it, of the whole file."""
        return zlib.crc32(self.to_page())

    @classmethod
    def from_page(cls, page: bytes) -> Self:
        """Read the file's first page.

        Raises
        ------
        ValueError
            If it is damaged, or was never written.
        """
        if len(page) < PAGE_BYTES:
            raise ValueError("is shorter than its header")
        magic, length, crc = _PREFIX.unpack_from(page)
        text = page[_PREFIX.size : _PREFIX.size + length]
        if magic != _MAGIC or len(text) != length or zlib.crc32(text) != crc:
            raise ValueError("has no intact header")
        value = json.loads(text)
        if value.pop("format") != TABLE_FORMAT:
            raise ValueError(f"is not of format {TABLE_FORMAT}")
        sections = {name: Section(**at) for name, at in value.pop("sections").items()}
        return cls(sections=sections, **value)


def open_table(path: Path, kind: TableKind, generation: str) -> tuple[int, TableHeader]:
    """Open a finished table file and check its header and its size.

    Returns
    -------
    int
        A file descriptor, the caller's to close.
    TableHeader

    Raises
    ------
    GenerationCorruptError
        If the file is short, unfinished, damaged in its header, or another one.
    OSError
        If it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = TableHeader.from_page(os.pread(fd, PAGE_BYTES, 0))
        found = os.fstat(fd).st_size
        # A page beyond the end of a mapped file kills the process that touches it, so look first.
        if found != header.size_bytes:
            raise ValueError(f"has {found} bytes instead of {header.size_bytes}")
        if (header.kind, header.generation) != (kind, generation):
            raise ValueError(f"holds {header.kind} of generation {header.generation}")
    except ValueError as exc:
        os.close(fd)
        raise GenerationCorruptError(generation, f"file {path} {exc}") from exc
    except OSError:
        os.close(fd)
        raise
    return fd, header


def bucket_bits(count: int) -> int:
    """Return how many top bits of a hash number its bucket in a table of ``count`` rows.

    So many that a bucket has 1 to 2 ids on average; at least one.
    """
    return max(1, (max(count, 1) - 1).bit_length() - 1)


def starts_dtype(count: int) -> np.dtype[np.unsignedinteger]:
    """Return the element type of the section ``starts``."""
    return np.dtype("<u4" if count < 1 << 32 else "<u8")


class _MappedTable:
    """The mapping of one table file, and the look-up of ids in it."""

    def __init__(self, path: Path, kind: TableKind, generation: str) -> None:
        fd, self.header = open_table(path, kind, generation)
        try:
            self._map = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        self.generation = generation
        self.count = self.header.count
        self.size_bytes = self.header.size_bytes
        self._path = path
        self._shift = np.uint64(64 - bucket_bits(self.count))
        self._is_closed = False
        self._starts: npt.NDArray[np.unsignedinteger] = self._section("starts").view(
            starts_dtype(self.count)
        )
        self._ids: I64 = self._section("ids").view("<i8")
        self._few_starts = self._memory("starts").cast("I" if self._starts.itemsize == 4 else "Q")
        self._few_ids = self._memory("ids").cast("q")
        # Element k is the WINDOW ids from row k on: overlapping, taken as one lump each.
        self._windows: npt.NDArray[np.void] = np.ndarray(
            (self.count + 1,),
            dtype=np.dtype(("V", 8 * WINDOW)),
            buffer=self._map,
            offset=self.header.sections["ids"].offset,
            strides=(8,),
        )

    def prefault(self) -> None:
        """Bring the whole file into memory, so that no request waits for the disk.

        Other threads go on meanwhile: `mmap.madvise` would keep the interpreter's lock for as long
        as the disk takes.
        """
        content = np.frombuffer(self._map, dtype=np.uint8)
        for start in range(0, self.size_bytes, _POPULATED_BYTES):
            part = content[start : start + _POPULATED_BYTES]
            address, length = ctypes.c_void_p(part.ctypes.data), ctypes.c_size_t(len(part))
            if _libc.madvise(address, length, _MADV_POPULATE_READ):  # an older kernel
                part[::PAGE_BYTES].max()

    def close(self) -> None:
        """Unmap the table; calling it again does nothing.

        Whoever reads from it at this moment, or still holds a view of it, keeps it mapped for as
        long. Looking something up afterwards raises GenerationNotFoundError.
        """
        self._is_closed = True
        self._few_starts = self._few_ids = memoryview(b"").cast("q")
        self._starts = np.zeros(0, dtype=np.uint32)
        self._ids = np.zeros(0, dtype=np.int64)
        self._windows = np.zeros(0, dtype=np.dtype(("V", 8 * WINDOW)))
        try:
            self._map.close()
        except BufferError:  # a view is still out; the mapping goes with the last of them
            return

    def rows_of(self, ids: I64) -> I64:
        """Return the row of each id.

        Parameters
        ----------
        ids : ndarray, shape (n,), int64

        Returns
        -------
        ndarray, shape (n,), int64
            -1 for an id that is not in the table.

        Raises
        ------
        GenerationCorruptError
            If the file was cut short since it was opened, or points outside itself.
        GenerationNotFoundError
            If the table was closed.
        """
        self._require_whole()
        if (loops := kernels()) and self._starts.dtype == np.uint32:
            rows = np.empty(len(ids), dtype=np.int64)
            if not loops.find_rows(ids, self._starts, self._ids, self.count, self._shift, rows):
                raise self.outside("starts")
            return rows
        if len(ids) <= _FEW_IDS:
            return self._few_rows(ids)
        buckets = (hash_ids(ids) >> self._shift).view(np.int64)
        rows = np.full(len(ids), -1, dtype=np.int64)
        try:
            first = self._starts.take(buckets).astype(np.int64)
            found, at = self._scan(ids, first)
            rows[found] = at
            if len(found) < len(ids):
                self._look_further(ids, buckets, first, rows)
        except IndexError as exc:
            raise self.outside("starts") from exc
        return rows

    def _require_whole(self) -> None:
        """Check that nobody cut the file short: the missing pages would kill this process."""
        try:
            size = self._map.size()
        except ValueError as exc:
            raise GenerationNotFoundError(self.generation) from exc
        if size != self.size_bytes:
            what = f"file {self._path} has {size} bytes instead of {self.size_bytes}"
            raise GenerationCorruptError(self.generation, what)

    def outside(self, section: str) -> StoreError:
        """Return the error that says why a look-up went outside the table."""
        if self._is_closed:
            return GenerationNotFoundError(self.generation)
        what = f"file {self._path}: section {section} points outside the file"
        return GenerationCorruptError(self.generation, what)

    def _few_rows(self, ids: I64) -> I64:
        shift = int(self._shift)
        rows = []
        try:
            for wanted in ids.tolist():
                bucket = hash_id(wanted) >> shift
                start, end = self._few_starts[bucket : bucket + 2].tolist()
                if end > self.count:
                    raise self.outside("starts")
                among = self._few_ids[start:end].tolist()
                rows.append(start + among.index(wanted) if wanted in among else -1)
        except ValueError as exc:  # closed: nothing to unpack
            raise self.outside("starts") from exc
        return np.array(rows, dtype=np.int64)

    def _look_further(self, ids: I64, buckets: I64, first: I64, rows: I64) -> None:
        """Find ids whose bucket is larger than a window; ``rows`` gets what is found."""
        missing = np.flatnonzero(rows < 0)
        last = self._starts.take(buckets[missing] + 1).astype(np.int64)
        first = first[missing] + WINDOW
        while (more := first < last).any():
            missing, first, last = missing[more], first[more], last[more]
            found, at = self._scan(ids[missing], first)
            rows[missing[found]] = at
            first = first + WINDOW

    def _scan(self, ids: I64, first: I64) -> tuple[I64, I64]:
        """Compare each id to the ids from its ``first`` row on; return which match, and where."""
        windows = self._windows[first].view(np.int64).reshape(-1, WINDOW)
        hits = np.flatnonzero(windows == ids[:, np.newaxis])
        which = hits >> _WINDOW_BITS
        rows = first[which] + (hits & (WINDOW - 1))
        inside = rows < self.count  # the padding is no id, though it may equal one
        return which[inside], rows[inside]

    def _memory(self, name: str) -> memoryview:
        at = self.header.sections[name]
        return memoryview(self._map)[at.offset : at.offset + at.length]

    def _section(self, name: str) -> U8:
        return np.frombuffer(self._memory(name), dtype=np.uint8)


class MappedItemTable(_MappedTable):
    """The items of one generation, mapped; safe to read from several threads (an ``ItemTable``).

    Parameters
    ----------
    path : Path
        A finished file of kind ``items``.
    generation : str
        Whose items they must be.

    Raises
    ------
    GenerationCorruptError
        If the file is short, unfinished, damaged in its header, or another one.
    OSError
        If it cannot be opened or mapped.
    """

    def __init__(self, path: Path, generation: str) -> None:
        super().__init__(path, "items", generation)
        self._categories: I64 = self._section("categories").view("<i8")
        self._has_category = self._section("has_category")
        self._rows = self._section("rows").reshape(self.count, self.header.stride)

    def take(self, rows: I64) -> ItemBlock:
        """Return the items at these rows (none negative), copied out of the table.

        Raises
        ------
        GenerationNotFoundError
            If the table was closed.
        """
        try:
            if loops := kernels():
                n = len(rows)
                ids, categories = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
                k_i = np.empty((n, self.header.stride), dtype=np.uint8)
                has_category = np.empty(n, dtype=np.bool_)
                stored = self._ids, self._rows, self._categories, self._has_category
                if not loops.take_rows(rows, *stored, ids, k_i, categories, has_category):
                    raise self.outside("rows")
            else:
                ids = self._ids.take(rows)
                k_i = self._rows.take(rows, axis=0)
                categories = self._categories.take(rows)
                has_category = self._has_category.take(rows).astype(np.bool_)
        except IndexError as exc:
            raise self.outside("rows") from exc
        return ItemBlock(ids, k_i, categories, has_category)

    def close(self) -> None:
        """Unmap the table; calling it again does nothing."""
        self._categories = np.zeros(0, dtype=np.int64)
        self._has_category = np.zeros(0, dtype=np.uint8)
        self._rows = np.zeros((0, self.header.stride), dtype=np.uint8)
        super().close()


class MappedUserTable(_MappedTable):
    """The users of one generation, mapped: a packed record each.

    Parameters
    ----------
    path : Path
        A finished file of kind ``users``.
    generation : str
        Whose users they must be.

    Raises
    ------
    GenerationCorruptError
        If the file is short, unfinished, damaged in its header, or another one.
    OSError
        If it cannot be opened or mapped.
    """

    def __init__(self, path: Path, generation: str) -> None:
        super().__init__(path, "users", generation)
        self._offsets: I64 = self._section("offsets").view("<i8")
        self._records = self._memory("records")

    def records_of(self, ids: I64) -> list[memoryview | None]:
        """Return the record of each user, a view of the mapped file; None for an unknown one.

        Raises
        ------
        GenerationCorruptError
            If the file points outside itself.
        GenerationNotFoundError
            If the table was closed.
        """
        rows = self.rows_of(ids).tolist()
        return [None if row < 0 else self._record(row) for row in rows]

    def close(self) -> None:
        """Unmap the table; calling it again does nothing."""
        self._offsets = np.zeros(0, dtype=np.int64)
        self._records = memoryview(b"")
        super().close()

    def _record(self, row: int) -> memoryview:
        try:
            start, end = self._offsets[row : row + 2].tolist()
        except ValueError as exc:  # closed meanwhile
            raise self.outside("offsets") from exc
        if not 0 <= start <= end <= len(self._records):
            raise self.outside("offsets")
        return self._records[start:end]
