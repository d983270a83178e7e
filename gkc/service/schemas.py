"""What a request asks and what an answer holds, free of any wire format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from gkc.arrays import I64, U8, Bools
from gkc.knowledge import PARTS, Part, Vectors

AnswerType = Literal["f32", "f16"]
Layout = Literal["rows", "factored"]
ANSWER_TYPES: Final[tuple[AnswerType, ...]] = get_args(AnswerType)
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Columns:
    """The rows that a request asks for, as columns: one element for all rows, or one a row.

    Attributes
    ----------
    n : int
        Number of rows.
    users, items : ndarray, shape (1,) or (n,), int64
    categories : ndarray, shape (1,) or (n,), int64
        Category given for each row; 0 where none was given.
    has_category : ndarray, shape of ``categories``, bool
        Where a category was given.
    versions : tuple of str
        Distinct versions in order of first appearance; empty only if there are no rows.
    version_index : ndarray, shape (1,) or (n,), int64
        Position in ``versions`` of each row's version; (1,) if there is one version.
    """

    n: int
    users: I64
    items: I64
    categories: I64
    has_category: Bools
    versions: tuple[str, ...]
    version_index: I64


@dataclass(frozen=True, slots=True)
class KnowledgeRequest:
    """One decoded question: the rows, and how they are to be answered.

    Attributes
    ----------
    columns : Columns
    parts : tuple of str
        The parts asked for, in the order of `gkc.knowledge.PARTS`.
    dtype : {"f32", "f16"}
    layout : {"rows", "factored"}
    """

    columns: Columns
    parts: tuple[Part, ...] = PARTS
    dtype: AnswerType = "f32"
    layout: Layout = "rows"


@dataclass(frozen=True, slots=True)
class RowsAnswer:
    """An answer whose parts lie side by side.

    Attributes
    ----------
    versions : mapping of str to str
        The generation that answered for each version.
    spans : mapping of str to (int, int)
        First and end column of each part; empty if no version was named.
    knowledge : ndarray, shape (n, width), float32 or float16
    status : ndarray, shape (n, 4), uint8
    """

    versions: Mapping[str, str]
    spans: Mapping[Part, tuple[int, int]]
    knowledge: Vectors
    status: U8


@dataclass(frozen=True, slots=True)
class FactoredAnswer:
    """An answer of distinct vectors and indexes, from which a client computes the same rows.

    Attributes
    ----------
    versions, spans
        As in `RowsAnswer`: the columns that the parts would have in rows.
    tensors : mapping of str to ndarray
        ``user``, ``item``, ``user_category`` in float32 or float16, ``user_index`` and
        ``user_category_index`` in int32; only what the parts need.
    status : ndarray, shape (n, 4), uint8
    """

    versions: Mapping[str, str]
    spans: Mapping[Part, tuple[int, int]]
    tensors: Mapping[str, Array]
    status: U8


Answer = RowsAnswer | FactoredAnswer


def in_row_order(parts: Sequence[str]) -> tuple[Part, ...]:
    """Return these parts in the order that they have in every row, each once."""
    return tuple(part for part in PARTS if part in parts)
