"""The compiled rule of a knowledge row, ``rows.c``: number values, check records, lay rows.

It is the only way; a slow one in the tests is its witness. The sizes of arrays are checked here,
every index inside them by the compiled loops.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, Literal

import numpy as np

from gkc.arrays import I64, U8, Bools
from gkc.compiled import NOWHERE, Array, address, fault, library, opened
from gkc.errors import LayoutError
from gkc.id_index import SortedStrings, TableIndex, opened_strings, packed_strings, table_index
from gkc.knowledge import PARTS, STATUSES, Part, Vectors, part_spans
from gkc.rows_library import GENERATION, QUESTION, TYPES, stride
from gkc.strings import Ids, StringIds

_WIDEST: Final = 1 << 24
"""So that no size of a record overflows: it has at most 2**32 pairs of 4 bytes a number."""
_COUNTS: Final = len(PARTS) * STATUSES
_SEED: Final = secrets.randbits(64)
"""So that nobody can choose values that all fall into one place of a table of distinct values."""

_GENERATION: Final = struct.Struct(GENERATION)
_QUESTION: Final = struct.Struct(QUESTION)

Laying = Callable[[int, int], None]
"""Lays the rows from the first number to before the second; raises `LayoutError`."""


def damaged_record(crc32: int, users: Ids, records: bytes, offsets: I64 | None) -> int:
    """Return which of some users' records is the first that is damaged, or another's; -1 if none.

    Parameters
    ----------
    crc32 : int
        Of the generation's name, which their checksums begin with.
    users : ndarray, shape (U,), int64, or StringIds
    records : bytes
        One behind the other.
    offsets : ndarray, shape (U + 1,), int64, or None
        Where each begins and ends, an empty one for a user who is not there; None for one user.
    """
    names, ids = (
        (packed_strings(users), None) if isinstance(users, StringIds) else (None, users.tobytes())
    )
    at = None if offsets is None else address(offsets)
    row: int = library().gkc_check_records(crc32, ids, names, records, at, len(users), len(records))
    return row


def distinct(values: I64, seconds: tuple[I64, Bools] | None = None) -> tuple[I64, I64]:
    """Find the distinct values of a column, or the distinct pairs of two, and number them.

    Parameters
    ----------
    values : ndarray, shape (n,), int64
    seconds : (ndarray, ndarray), shape (n,), int64 and bool, optional
        The second values, and where there is one; all rows without one have the same, none.

    Returns
    -------
    first : ndarray, shape (distinct,), int64
        The row in which each appears first; ascending.
    index : ndarray, shape (n,), int64
        Which of them each row has.
    """
    n = len(values)
    first, index = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    if not n:
        return first, index
    slots = np.full(2 << n.bit_length(), -1, dtype=np.int64)
    count = library().gkc_distinct(
        address(values),
        *((None, None) if seconds is None else map(address, seconds)),
        n,
        _SEED,
        address(slots),
        len(slots) - 1,
        address(first),
        address(index),
    )
    return first[:count], index


class GenerationRows:
    """What one generation's rows are laid from: its items' sections and its default vectors.

    Parameters
    ----------
    element_type : {"f16", "f32", "int8"}
    dim, category_dim : int
        Width of K_u and K_i, and of K_uc.
    sections : mapping of str to bytes-like
        Of the table of items: ``starts`` and ``ids`` as in `TableIndex`, ``categories`` (int64 a
        row), ``has_category`` (uint8), ``rows`` (stored K_i). Of ids that are strings,
        ``id_offsets`` and ``id_bytes``; of such categories, ``category_offsets`` and
        ``category_bytes``.
    count : int
        Number of items.
    defaults : mapping of str to bytes or None
        ``user``, ``item``, ``user_category``: the stored vectors of what is not there.
    default_category : int or None
        Category of an item that is not there.

    Raises
    ------
    LayoutError
        If sections or vectors do not fit the widths and the number of items.

    Attributes
    ----------
    index : TableIndex
        Where items are found.
    dictionary : SortedStrings or None
        Of the categories that stand for strings.
    """

    def __init__(
        self,
        element_type: str,
        dim: int,
        category_dim: int,
        sections: Mapping[str, memoryview],
        count: int,
        defaults: Mapping[str, bytes | None],
        default_category: int | None,
    ) -> None:
        if not (1 <= dim <= _WIDEST and 0 <= category_dim <= _WIDEST):
            raise LayoutError(f"rows of D = {dim} and D_c = {category_dim} cannot be")
        widths = {"user": dim, "item": dim, "user_category": category_dim}
        for name, vector in defaults.items():
            if vector is not None and len(vector) != stride(element_type, widths[name]):
                raise LayoutError(f"the default vector of {name} has {len(vector)} bytes")
        sizes = {"categories": 8, "has_category": 1, "rows": stride(element_type, dim)}
        for name, size in sizes.items():
            if len(sections[name]) != size * count:
                raise LayoutError(f"section {name} has {len(sections[name])} bytes")
        self.index = table_index(sections, count)
        self.dictionary = (
            SortedStrings(opened_strings("category", sections))
            if "category_offsets" in sections
            else None
        )
        vectors = [defaults.get(name) for name in widths]
        self._held: list[Array] = [
            opened("categories", sections["categories"], "<i8"),
            np.frombuffer(sections["has_category"], dtype=np.uint8),
            np.frombuffer(sections["rows"], dtype=np.uint8),
            *(np.frombuffer(vector or b"", dtype=np.uint8) for vector in vectors),
        ]
        self.packed = self.index.packed + _GENERATION.pack(
            TYPES[element_type],
            dim,
            category_dim,
            *(a.ctypes.data if a.size else 0 for a in self._held[:3]),
            *(
                0 if vector is None else a.ctypes.data if a.size else NOWHERE
                for vector, a in zip(vectors, self._held[3:], strict=True)
            ),
            default_category or 0,
            default_category is not None,
        )
        self.lay = library().gkc_lay_rows


@dataclass(frozen=True, slots=True)
class RowForm:
    """What the rows of an answer look like.

    Attributes
    ----------
    spans : mapping of str to (int, int)
        First and end column of each part, in row order.
    width : int
        Numbers of a row.
    row_bytes : int
        Bytes of a row.
    dtype : dtype
        float16 or float32.
    packed : tuple of int
        The same as the compiled rule takes it.
    """

    spans: Mapping[Part, tuple[int, int]]
    width: int
    row_bytes: int
    dtype: np.dtype[np.float16 | np.float32]
    packed: tuple[int, ...]


@lru_cache(maxsize=1024)
def row_form(
    parts: tuple[Part, ...], dim: int, category_dim: int, answer_type: Literal["f16", "f32"]
) -> RowForm:
    """Return the form of rows that are made of these parts."""
    spans = part_spans(parts, dim, category_dim)
    width = max((end for _, end in spans.values()), default=0)
    first = (spans[part][0] if part in spans else -1 for part in PARTS)
    dtype: np.dtype[np.float16 | np.float32] = np.dtype("<f2" if answer_type == "f16" else "<f4")
    return RowForm(spans, width, width * dtype.itemsize, dtype, (*first, width, TYPES[answer_type]))


class Rows:
    """Some rows of one generation: what is asked, where the items are, what became of the parts.

    Parameters
    ----------
    n : int
        Number of rows.
    items : ndarray, shape (n,) or (1,), int64, or StringIds of as many, or None
        Their items; one stands for all. None where items do not matter. Strings must be looked up
        before rows are laid.
    categories, given : ndarray, shape (n,) or (1,), int64 and bool, or None
        The categories given with the question, and where one was; None if nowhere.
    user_index : ndarray, shape (n,), int64, or None
        Which of the distinct users each row has; None where all have the first.
    answer_rows : ndarray, shape (n,), int64, or None
        Which row of the answer each is; None where they come in order.

    Attributes
    ----------
    must_find_items : bool
        Whether items are still to be looked up before rows are laid.

    Raises
    ------
    LayoutError
        If a column has another length, or categories are strings: these stand in a dictionary.
    """

    def __init__(
        self,
        n: int,
        items: Ids | None,
        categories: Ids | None = None,
        given: Bools | None = None,
        user_index: I64 | None = None,
        answer_rows: I64 | None = None,
    ) -> None:
        self.n = n
        self._held = items, categories, given, user_index, answer_rows
        size = 1 if items is None else len(items)
        if (
            (size not in (1, n))
            or (user_index is not None and len(user_index) != n)
            or (answer_rows is not None and len(answer_rows) != n)
            or (categories is None) != (given is None)
            or isinstance(categories, StringIds)
            or (categories is not None and len(categories) not in (1, n))
            or (categories is not None and given is not None and len(given) != len(categories))
        ):
            raise LayoutError(f"columns of other lengths than {n} or 1, or of other types")
        self._answer_rows_at = 0 if answer_rows is None else address(answer_rows)
        # Counts of statuses, then the row of each item in its table.
        self._work = work = np.zeros(_COUNTS + size, dtype=np.int64)
        self._work_at = address(work)
        self._strings = items if isinstance(items, StringIds) else None
        self.must_find_items = self._strings is not None
        if items is None or isinstance(items, StringIds):
            work[_COUNTS:] = -1
            self._items_at, self._items_n = 0, 0
        else:
            self._items_at, self._items_n = address(items), size
        self._question = (
            self._work_at + 8 * _COUNTS,
            size == 1,
            0 if categories is None else address(categories),
            0 if given is None else address(given),
            categories is not None and len(categories) == 1,
            0 if user_index is None else address(user_index),
        )

    @property
    def counts(self) -> I64:
        """How often each part had each status among the rows laid, part by part, shape (12,)."""
        return self._work[:_COUNTS]

    def find_items(self, index: TableIndex) -> None:
        """Look all items up now, and not when the rows are laid.

        Raises
        ------
        LayoutError
            If the table points outside itself.
        """
        if self._items_at:
            index.find(self._items_at, self._items_n, self._work_at + 8 * _COUNTS)
            self._items_at = 0
        elif self.must_find_items and self._strings is not None:
            self._work[_COUNTS:] = index.rows_of(self._strings)
            self.must_find_items = False

    def laying(
        self,
        generation: GenerationRows,
        records: bytes,
        offsets: I64 | None,
        form: RowForm,
        knowledge: Vectors,
        status: U8 | None = None,
        resolved: tuple[I64, Bools] | None = None,
    ) -> Laying:
        """Return what lays the rows, some at a time.

        Parameters
        ----------
        generation : GenerationRows
        records : bytes
            The stored records of the distinct users, one behind the other.
        offsets : ndarray, shape (U + 1,), int64, or None
            Where each begins and ends, an empty one for a user who is not there; None for one user.
        form : RowForm
        knowledge : ndarray, shape (N, form.width), of form.dtype, C-contiguous
            Where the rows go.
        status : ndarray, shape (N, 4), uint8, optional
        resolved : (ndarray, ndarray), shape (n,), int64 and bool, optional
            Where each row's category goes, and whether it has one.

        Raises
        ------
        LayoutError
            If an array does not fit the form, or items must be looked up before; by that function,
            if a table, a record or a row points outside itself.
        """
        if knowledge.shape[1] != form.width or knowledge.dtype != form.dtype:
            raise LayoutError(
                f"an answer of {knowledge.shape} {knowledge.dtype} is of another form"
            )
        if status is not None and status.shape != (len(knowledge), len(PARTS)):
            raise LayoutError(f"statuses of {status.shape} for {len(knowledge)} rows")
        if self.must_find_items:
            raise LayoutError("items that are strings were not looked up")
        if resolved is not None and not len(resolved[0]) == len(resolved[1]) == self.n:
            raise LayoutError(f"resolved categories of other lengths than {self.n}")
        packed = _QUESTION.pack(
            self.n,
            len(knowledge),
            self._answer_rows_at,
            self._items_at,
            *self._question,
            1 if offsets is None else len(offsets) - 1,
            0 if offsets is None else address(offsets),
            len(records),
            *form.packed,
            address(knowledge),
            0 if status is None else address(status),
            self._work_at,
            0 if resolved is None else address(resolved[0]),
            0 if resolved is None else address(resolved[1]),
        )
        held = self, generation, offsets, knowledge, status, resolved
        return partial(_lay, generation.lay, generation.packed, packed, records, held)


def _lay(
    lay: Callable[..., int],
    generation: bytes,
    question: bytes,
    records: bytes,
    _held: tuple[object, ...],  # the question has their addresses
    start: int,
    end: int,
) -> None:
    outcome = lay(generation, question, records, start, end)
    if outcome:
        raise fault(outcome)
