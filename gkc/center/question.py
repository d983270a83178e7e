"""What a request asks and what an answer holds, free of any wire format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gkc.arrays import I64, U8, Array, Bools
from gkc.knowledge import PARTS, Part, Vectors
from gkc.strings import Ids

AnswerType = Literal["f32", "f16"]
Layout = Literal["rows", "factored"]
ANSWER_TYPES: Final[tuple[AnswerType, ...]] = get_args(AnswerType)
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

ScalarT = TypeVar("ScalarT", np.int64, np.bool_)
Pointers = tuple[str, str, str]
POINTERS: Final[Pointers] = ("/u/{}", "/i/{}", "/c/{}")
"""Of users, items and categories, the JSON Pointer to the k-th element, with braces for k."""


class Columns(Struct, frozen=True):
    """The rows that a request asks for, as columns: one element for all rows, or one a row.

    Attributes
    ----------
    n : int
        Number of rows.
    users, items : ndarray, shape (1,) or (n,), int64, or StringIds of as many
    categories : ndarray, shape (1,) or (n,), int64, or StringIds of as many, or None
        The category given for each row; None if nowhere.
    has_category : ndarray, as long as the categories, bool, or None
        Where one was given.
    versions : tuple of str
        Distinct versions in order of first appearance; empty only if there are no rows.
    version_index : ndarray, shape (1,) or (n,), int64
        Position in ``versions`` of each row's version; (1,) if there is one version.
    pointers : tuple of str
        Where the question has users, items and categories.
    """

    n: int
    users: Ids
    items: Ids
    categories: Ids | None
    has_category: Bools | None
    versions: tuple[str, ...]
    version_index: I64
    pointers: Pointers = POINTERS

    def at(self, rows: I64 | slice) -> Columns:
        """Return the columns of these rows alone, whatever their versions; neighbours as views."""

        def gathered(column: npt.NDArray[ScalarT]) -> npt.NDArray[ScalarT]:
            return column if len(column) == 1 else column[rows]

        def gathered_ids(column: Ids) -> Ids:
            return column if len(column) == 1 else column[rows]

        return Columns(
            n=len(range(self.n)[rows]) if isinstance(rows, slice) else len(rows),
            users=gathered_ids(self.users),
            items=gathered_ids(self.items),
            categories=None if self.categories is None else gathered_ids(self.categories),
            has_category=None if self.has_category is None else gathered(self.has_category),
            versions=self.versions,
            version_index=gathered(self.version_index),
            pointers=self.pointers,
        )


class Question(Struct, frozen=True):
    """The rows that are asked for, and how they are to be answered.

    Attributes
    ----------
    columns : Columns
    parts : tuple of str
        The parts asked for, in the order of `gkc.knowledge.PARTS`.
    dtype : {"f32", "f16"}
    layout : {"rows", "factored"}
    allow_stale : float
        How many seconds old an answer may be while the store is away.
    """

    columns: Columns
    parts: tuple[Part, ...] = PARTS
    dtype: AnswerType = "f32"
    layout: Layout = "rows"
    allow_stale: float = 0.0


class _AnyAnswer(Struct, frozen=True):
    """What an answer tells in either layout.

    Attributes
    ----------
    versions : mapping of str to str
        The generation that answered for each version.
    spans : mapping of str to (int, int)
        First and end column that each part has in rows; empty if no version was named.
    status : ndarray, shape (n, 4), uint8
    counts : mapping of str to ndarray, shape (12,), int64
        For each version, how many of its rows have each status, part by part.
    """

    versions: Mapping[str, str]
    spans: Mapping[Part, tuple[int, int]]
    status: U8
    counts: Mapping[str, I64]


class RowsAnswer(_AnyAnswer, frozen=True):
    """An answer whose parts lie side by side.

    Attributes
    ----------
    knowledge : ndarray, shape (n, width), float32 or float16
    tasks : mapping of str to str
    age : float or None
        As of a `FactoredAnswer`.
    """

    knowledge: Vectors
    tasks: Mapping[str, str] = {}
    age: float | None = None


class FactoredAnswer(_AnyAnswer, frozen=True):
    """An answer of distinct vectors and indexes, from which a client computes the same rows.

    Attributes
    ----------
    tensors : mapping of str to ndarray
        ``user``, ``item``, ``user_category`` in float32 or float16, ``user_index`` and
        ``user_category_index`` in int32; only what the parts need.
    tasks : mapping of str to str
        For each version whose bundle tells its tasks, these as JSON.
    age : float or None
        How many seconds ago the catalogue was read by which it was answered, while the store is
        away; None for an ordinary answer.
    """

    tensors: Mapping[str, Array]
    tasks: Mapping[str, str] = {}
    age: float | None = None


Answer = RowsAnswer | FactoredAnswer


def in_row_order(parts: Sequence[str]) -> tuple[Part, ...]:
    """Return these parts in the order that they have in every row, each once."""
    if parts == PARTS:  # the usual question
        return PARTS
    return tuple(part for part in PARTS if part in parts)
