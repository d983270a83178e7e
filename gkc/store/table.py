"""Tables in memory: mapped files, and small ones made for a few items. `table_format` says how.

A finished file is never written to again; whoever has mapped it may go on reading after it was
deleted.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gkc.arrays import I64
from gkc.errors import (
    GenerationCorruptError,
    GenerationNotFoundError,
    LayoutError,
    StoreError,
)
from gkc.id_index import TableIndex, table_index
from gkc.store.codec import ItemBlock
from gkc.store.table_file import TableFile
from gkc.store.table_format import PAGE_BYTES, TableHeader
from gkc.strings import Ids, StringIds

_MADV_POPULATE_READ: Final = 22  # Linux 5.14; the mmap module has no name for it
_POPULATED_BYTES: Final = 16 << 20
"""Brought in at once: the kernel changes no other mapping of the process meanwhile."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Table:
    """A table in memory, and the look-up of ids in it.

    Attributes
    ----------
    sections : mapping of str to memoryview
        The bytes of each section; none once the table is closed.
    file : TableFile or None
        What it is mapped from.
    """

    def __init__(
        self, memory: mmap.mmap, header: TableHeader, where: str, file: TableFile | None = None
    ) -> None:
        self._map = memory
        self.file = file
        self.header = header
        self.generation = header.generation
        self.count = header.count
        self.size_bytes = header.size_bytes
        self._where = where
        self.sections: Mapping[str, memoryview] = {
            name: memoryview(memory)[at.offset : at.offset + at.length].toreadonly()
            for name, at in header.sections.items()
        }
        try:
            self._index: TableIndex | None = table_index(self.sections, self.count)
        except LayoutError as exc:
            raise GenerationCorruptError(self.generation, f"{where}: {exc}") from exc

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
        if self._index is None:
            return
        self._index, self.sections = None, {}
        self._drop_views()
        if self.file is not None:
            self.file.close()
        try:
            self._map.close()
        except BufferError:  # a view is still out; the mapping goes with the last of them
            return

    def _drop_views(self) -> None:
        """Let go of what else a table holds of the mapping."""

    def rows_of(self, ids: Ids) -> I64:
        """Return the row of each id.

        Parameters
        ----------
        ids : ndarray, shape (n,), int64, or StringIds
            Of the table's type.

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
        try:
            return self._open_index().rows_of(ids)
        except LayoutError as exc:
            raise self.outside("starts") from exc

    def _strings(self, name: str) -> StringIds:
        offsets = np.frombuffer(self.sections[f"{name}_offsets"], dtype=np.int64)
        return StringIds(np.frombuffer(self.sections[f"{name}_bytes"], dtype=np.uint8), offsets)

    def require_whole(self) -> None:
        """Check that nobody cut the file short: the missing pages would kill this process."""
        self._open_index()

    def _open_index(self) -> TableIndex:
        """Return the index of a whole table; who holds it keeps the table mapped.

        Another thread may close the table at any moment.
        """
        index = self._index
        if index is None:
            raise GenerationNotFoundError(self.generation)
        size = self._map.size()
        if size != self.size_bytes:
            what = f"{self._where} has {size} bytes instead of {self.size_bytes}"
            raise GenerationCorruptError(self.generation, what)
        return index

    def outside(self, section: str) -> StoreError:
        """Return the error that says why a look-up went outside the table."""
        if self._index is None:
            return GenerationNotFoundError(self.generation)
        what = f"{self._where}: section {section} points outside the file"
        return GenerationCorruptError(self.generation, what)


class ItemTable(_Table):
    """Items of one generation, all or a few; safe to read from several threads.

    Parameters
    ----------
    memory : mmap
        All bytes of the table.
    header : TableHeader
        Of kind ``items``, checked.
    where : str
        What the memory is, for messages.
    """

    def take(self, rows: I64) -> ItemBlock:
        """Return the items at these rows (none negative), copied out of the table.

        Raises
        ------
        GenerationNotFoundError
            If the table was closed.
        """
        try:
            return ItemBlock(
                ids=self._column("ids", "<i8").take(rows),
                names=self._names(rows),
                k_i=self._column("rows", np.uint8, self.header.stride).take(rows, axis=0),
                categories=self._column("categories", "<i8").take(rows),
                has_category=self._column("has_category", np.uint8).take(rows) != 0,
            )
        except (IndexError, KeyError) as exc:  # none of its rows, or closed meanwhile
            raise self.outside("rows") from exc

    def dictionary(self) -> list[bytes]:
        """Return the categories that stand for strings, in ascending order of their bytes."""
        if "category_offsets" not in self.sections:
            return []
        return self._strings("category").tolist()

    def _names(self, rows: I64) -> list[bytes] | None:
        if "id_offsets" not in self.sections:
            return None
        return self._strings("id")[rows].tolist()

    def _column(self, name: str, dtype: npt.DTypeLike, *width: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.sections[name], dtype=dtype).reshape(self.count, *width)


class MappedItemTable(ItemTable):
    """The items of one generation, mapped from a file.

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
        file = TableFile(path, "items", generation)
        super().__init__(file.mapped(), file.header, file.where, file)


class MappedUserTable(_Table):
    """The users of one generation, mapped from a file: a packed record each.

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
        file = TableFile(path, "users", generation)
        super().__init__(file.mapped(), file.header, file.where, file)
        self._offsets = self.sections["offsets"].cast("q")
        self._records = self.sections["records"]

    def records_of(self, ids: Ids) -> list[memoryview | None]:
        """Return the record of each user, a view of the mapped file; None for an unknown one.

        Raises
        ------
        GenerationCorruptError
            If the file points outside itself.
        GenerationNotFoundError
            If the table was closed.
        """
        if len(ids) != 1:
            return self._records_at(self.rows_of(ids))
        # The usual question, for which arrays cost more than the work.
        try:
            index = self._open_index()
            row = (
                int(index.rows_of(ids)[0])
                if isinstance(ids, StringIds)
                else index.row_of(int(ids[0]))
            )
        except LayoutError as exc:
            raise self.outside("starts") from exc
        return [None if row < 0 else self._record(row)]

    def slice(self, start: int, end: int) -> tuple[Ids, list[memoryview]]:
        """Return the ids and the records of rows that follow one another, as views of the file.

        Raises
        ------
        GenerationCorruptError
            If the file was cut short since it was opened, or points outside itself.
        """
        self.require_whole()
        ids: Ids = np.frombuffer(self.sections["ids"], dtype="<i8")[start:end]
        if "id_offsets" in self.sections:
            ids = self._strings("id")[start:end]
        return ids, [self._record(row) for row in range(start, start + len(ids))]

    def _drop_views(self) -> None:
        self._offsets = memoryview(b"").cast("q")
        self._records = memoryview(b"")

    def _records_at(self, rows: I64) -> list[memoryview | None]:
        """Return the records at some rows, None where a row is negative."""
        offsets, records = np.frombuffer(self._offsets, dtype=np.int64), self._records
        try:
            starts, ends = offsets[rows], offsets[rows + 1]
        except IndexError as exc:  # closed meanwhile
            raise self.outside("offsets") from exc
        known = rows >= 0
        outside = (starts < 0) | (ends < starts) | (ends > len(records))
        if (outside & known).any():
            raise self.outside("offsets")
        at = zip(starts.tolist(), ends.tolist(), known.tolist(), strict=True)
        return [records[start:end] if is_known else None for start, end, is_known in at]

    def _record(self, row: int) -> memoryview:
        try:
            start, end = self._offsets[row], self._offsets[row + 1]
        except IndexError as exc:  # closed meanwhile
            raise self.outside("offsets") from exc
        if not 0 <= start <= end <= len(self._records):
            raise self.outside("offsets")
        return self._records[start:end]
