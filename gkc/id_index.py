"""Where ids are found, exactly: in tables of numbers, in tables of strings, in dictionaries."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import numpy as np

from gkc.arrays import I64
from gkc.compiled import address, fault, library, opened
from gkc.errors import LayoutError
from gkc.rows_library import STRINGS, TABLE
from gkc.strings import Ids, StringIds

_MOST_ROWS: Final = 1 << 32
_TABLE: Final = struct.Struct(TABLE)
_STRINGS: Final = struct.Struct(STRINGS)


def keys_of(column: StringIds) -> I64:
    """Return the key of each string, shape (n,), int64: a hash, in which different ones may meet.

    Words of eight bytes, little-endian and padded with zeros, go into a product each. It is part of
    the stored format and never changes.

    Raises
    ------
    LayoutError
        If a string lies outside of its column.
    """
    keys = np.empty(len(column), dtype=np.int64)
    outcome = library().gkc_keys(packed_strings(column), address(keys))
    if outcome:
        raise fault(outcome)
    return keys


def packed_strings(column: StringIds) -> bytes:
    """Return a column as the compiled loops take it; it must be held meanwhile."""
    offsets, data = column.offsets, column.data
    return _STRINGS.pack(address(offsets), address(data), len(offsets) - 1, len(data))


class SortedStrings:
    """A dictionary: strings in ascending order of their bytes, each of which has a place.

    Parameters
    ----------
    strings : StringIds
    """

    def __init__(self, strings: StringIds) -> None:
        self._held, self._packed = strings, packed_strings(strings)
        self._find = library().gkc_find_sorted

    def places_of(self, column: StringIds) -> I64:
        """Return the place of each string, shape (n,), int64; -1 if it is not there.

        Raises
        ------
        LayoutError
            If a string lies outside of those it belongs to.
        """
        places = np.empty(len(column), dtype=np.int64)
        outcome = self._find(self._packed, packed_strings(column), address(places))
        if outcome:
            raise fault(outcome)
        return places


def opened_strings(name: str, sections: Mapping[str, memoryview]) -> StringIds:
    """Return the strings of two sections, which the compiled loops read where they lie.

    Raises
    ------
    LayoutError
        If their offsets are not those of a number of strings.
    """
    offsets, data = sections[f"{name}_offsets"], sections[f"{name}_bytes"]
    if not len(offsets) or len(offsets) % 8:
        raise LayoutError(f"section {name}_offsets of {len(offsets)} bytes is none")
    starts = np.asarray(opened(f"{name}_offsets", offsets, "<i8"), dtype=np.int64)
    return StringIds(np.frombuffer(data, dtype=np.uint8), starts)


class TableIndex:
    """Where ids are found in one table: its sections ``starts`` and ``ids``.

    Parameters
    ----------
    starts : bytes-like
        uint32 for each bucket and one more: the first row that is not before it.
    ids : bytes-like
        int64 for each row, ascending by their hashes.
    count : int
        Number of rows.

    Raises
    ------
    LayoutError
        If the sections do not fit the number of rows.
    """

    def __init__(self, starts: memoryview, ids: memoryview, count: int) -> None:
        buckets = len(starts) // 4 - 1
        bits = buckets.bit_length() - 1
        if len(starts) % 4 or buckets != 1 << max(bits, 0) or not 1 <= bits < 32:
            raise LayoutError(f"section starts of {len(starts)} bytes is none")
        if not 0 <= count < _MOST_ROWS or len(ids) != 8 * count:
            raise LayoutError(f"section ids of {len(ids)} bytes does not hold {count} ids")
        self.count = count
        self._held = opened("starts", starts, "<u4"), opened("ids", ids, "<i8")
        self.packed = _TABLE.pack(*(a.ctypes.data for a in self._held), count, 64 - bits)
        self._find, self._find_one = library().gkc_find, library().gkc_find_one

    def find(self, ids: int, n: int, rows: int) -> None:
        """Write the rows of ``n`` ids to the address ``rows``, -1 for an id that is not there.

        Raises
        ------
        LayoutError
            If the table points outside itself.
        """
        outcome = self._find(self.packed, ids, n, rows)
        if outcome:
            raise fault(outcome)

    def row_of(self, id_: int) -> int:
        """Return the row of one id, -1 if it is not there; as `find`."""
        row: int = self._find_one(self.packed, id_)
        if row < -1:
            raise fault(1)
        return row

    def rows_of(self, ids: Ids) -> I64:
        """Return the row of each id, shape (n,), int64; as `find`."""
        if isinstance(ids, StringIds):
            raise LayoutError("ids that are strings are in no table of numbers")
        ids, rows = np.ascontiguousarray(ids), np.empty(len(ids), dtype=np.int64)
        self.find(address(ids), len(ids), address(rows))
        return rows


class StringIndex(TableIndex):
    """Where strings are found in one table: ``ids`` holds their keys.

    Parameters
    ----------
    sections : mapping of str to bytes-like
        ``starts`` and ``ids`` as in `TableIndex`; ``id_offsets``, int64 a row and one, and
        ``id_bytes``, all strings.
    count : int
        Number of rows.

    Raises
    ------
    LayoutError
        If the sections do not fit the number of rows.
    """

    def __init__(self, sections: Mapping[str, memoryview], count: int) -> None:
        super().__init__(sections["starts"], sections["ids"], count)
        names = opened_strings("id", sections)
        if len(names) != count:
            raise LayoutError(f"section id_offsets is that of {len(names)} ids, not {count}")
        self._held_names, self._names = names, packed_strings(names)
        self._find_strings = library().gkc_find_strings

    def rows_of(self, ids: Ids) -> I64:
        """Return the row of each string, shape (n,), int64, -1 for one that is not there.

        Raises
        ------
        LayoutError
            If the table points outside itself, or the ids are numbers.
        """
        if not isinstance(ids, StringIds):
            raise LayoutError("ids that are numbers are in no table of strings")
        rows = np.empty(len(ids), dtype=np.int64)
        outcome = self._find_strings(self.packed, self._names, packed_strings(ids), address(rows))
        if outcome:
            raise fault(outcome)
        return rows


def table_index(sections: Mapping[str, memoryview], count: int) -> TableIndex:
    """Return where ids are found in a table of so many rows, be they numbers or strings."""
    if "id_offsets" in sections:
        return StringIndex(sections, count)
    return TableIndex(sections["starts"], sections["ids"], count)
