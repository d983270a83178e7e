"""The definition of a knowledge row: its parts, their order, their status and their arithmetic.

KEEP (CIKM'22), equation 6: ``K(u, i, c) = [K_u, K_i, K_u * K_i, K_uc]``. Training, export and
serving all take the layout from here, so that what a model sees online is what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from gkc.arrays import I64, U8
from gkc.errors import LayoutError
from gkc.kernels import NOT_LAID, kernels

Part = Literal["user", "item", "user_item", "user_category"]
PARTS: Final[tuple[Part, ...]] = ("user", "item", "user_item", "user_category")
"""The parts of a row, in the order they always have."""

ABSENT: Final = 0
FOUND: Final = 1
DEFAULT: Final = 2
"""Status of one row and part: zeros, the exported vector, or the generation's default vector."""

_PRODUCT_STATUS: Final = np.array(
    [[ABSENT, ABSENT, ABSENT], [ABSENT, FOUND, DEFAULT], [ABSENT, DEFAULT, DEFAULT]], np.uint8
)
"""By the statuses of K_u and K_i."""

_FLOATS: Final = (np.dtype(np.float32).char, np.dtype(np.float16).char)
Vectors = npt.NDArray[np.float32 | np.float16]


def part_spans(
    parts: Sequence[Part], dim: int, category_dim: int
) -> Mapping[Part, tuple[int, int]]:
    """Return the columns of each part in a row made of ``parts``.

    Parameters
    ----------
    parts : sequence of str
        The parts of the row; their given order does not matter, rows always have the fixed order.
    dim, category_dim : int
        Width of K_u and K_i, and of K_uc.

    Returns
    -------
    mapping of str to (int, int)
        First column and end column of each part, in row order.

    References
    ----------
    KEEP (CIKM'22), equation 6.
    """
    return _part_spans(tuple(parts), dim, category_dim)


@lru_cache(maxsize=1024)
def _part_spans(
    parts: tuple[Part, ...], dim: int, category_dim: int
) -> Mapping[Part, tuple[int, int]]:
    spans: dict[Part, tuple[int, int]] = {}
    start = 0
    for part in PARTS:
        if part in parts:
            end = start + (category_dim if part == "user_category" else dim)
            spans[part] = (start, end)
            start = end
    return MappingProxyType(spans)


@lru_cache(maxsize=1024)
def _first_columns(spans: tuple[tuple[Part, tuple[int, int]], ...]) -> I64:
    """Return the first column of each of all parts, as the compiled loop takes them."""
    first = {part: start for part, (start, _) in spans}
    return np.array([first.get(part, NOT_LAID) for part in PARTS], dtype=np.int64)


def product_status(user: U8, item: U8) -> U8:
    """Return the status of K_u * K_i from the statuses of its factors.

    Parameters
    ----------
    user, item : ndarray, shape (n,) or (1,), uint8
        Status of each row's user and item; one element stands for all rows.

    Returns
    -------
    ndarray, shape (n,) or (1,), uint8
        1 where both are found, 0 where either is absent, else 2.
    """
    return _PRODUCT_STATUS[user, item]


@dataclass(frozen=True, slots=True)
class Factors:
    """What the rows of one answer are made of: vectors, and an index into them per row.

    Vectors are float32 or float16, in which f16 stores keep them: a float32 has the same value.

    Attributes
    ----------
    user : ndarray, shape (U, D)
        K_u of each distinct (user, version), in order of first appearance; zeros where absent.
    user_index : ndarray, shape (n,) or (1,), int64
        Row of ``user`` that each answered row uses; one element stands for all rows.
    item : ndarray, shape (n, D) or (1, D)
        K_i of each answered row, zeros where absent; one row stands for all rows.
    user_category : ndarray, shape (P, D_c)
        K_uc of pairs; zeros where absent.
    user_category_index : ndarray, shape (n,), int64
        Row of ``user_category`` that each answered row uses.
    status : ndarray, shape (n, 4), uint8
        Status of each row and part, columns in the order of `PARTS`.
    """

    user: Vectors
    user_index: I64
    item: Vectors
    user_category: Vectors
    user_category_index: I64
    status: U8


def assemble(
    factors: Factors, parts: Sequence[Part] = PARTS, dtype: npt.DTypeLike = np.float32
) -> Vectors:
    """Lay the parts side by side, one row per request quadruple.

    Parameters
    ----------
    factors : Factors
        Vectors, the rows' indexes into them, and the rows' statuses.
    parts : sequence of str
        Which parts the rows have; always laid out in the order of `PARTS`.
    dtype : dtype
        float32 or float16. The product is computed in float32 either way and then cast.

    Returns
    -------
    ndarray, shape (n, width), of ``dtype``
        Freshly allocated, never a view of the store. Absent parts are +0.0.

    Raises
    ------
    LayoutError
        If shapes or dtypes do not fit each other.

    References
    ----------
    KEEP (CIKM'22), equation 6.
    """
    _check(factors)
    spans = part_spans(parts, factors.item.shape[1], factors.user_category.shape[1])
    width = max((end for _, end in spans.values()), default=0)
    rows: Vectors = np.empty((len(factors.status), width), dtype=dtype)
    vectors = factors.user, factors.item, factors.user_category
    loops = kernels()
    if loops is not None and all(v.dtype == np.float16 for v in vectors):
        loops.lay_rows(
            factors.user,
            factors.user_index,
            factors.item,
            factors.user_category,
            factors.user_category_index,
            _first_columns(tuple(spans.items())),
            rows,
        )
    else:
        _lay_rows(factors, spans, rows)
    if "user_item" in spans:
        status = factors.status[:, PARTS.index("user_item")]
        if np.count_nonzero(status) < len(status):
            # Zeros times a negative number are -0.0; absent is +0.0.
            rows[:, slice(*spans["user_item"])][status == ABSENT] = 0.0
    return rows


def _lay_rows(factors: Factors, spans: Mapping[Part, tuple[int, int]], rows: Vectors) -> None:
    """Write each part into its columns, by numpy."""
    user, item, pair = factors.user, factors.item, factors.user_category
    if rows.dtype == np.float32:  # converted here once, not by every line below
        user, item, pair = (v.astype(np.float32, copy=False) for v in (user, item, pair))
    user = user.take(factors.user_index, axis=0)
    for part, (start, end) in spans.items():
        out = rows[:, start:end]
        if part == "user":
            out[...] = user
        elif part == "item":
            out[...] = item
        elif part == "user_category":
            out[...] = pair.take(factors.user_category_index, axis=0)
        elif user.dtype == item.dtype == np.float16:
            np.multiply(user, item, out=out)  # in float32, and rounded once
        else:
            np.multiply(user, item, out=out, dtype=np.float32, casting="same_kind")


def _check(factors: Factors) -> None:
    n = len(factors.status)
    for vectors in (factors.user, factors.item, factors.user_category):
        if vectors.ndim != 2 or vectors.dtype.char not in _FLOATS:
            raise LayoutError("knowledge vectors must be two-dimensional, of float32 or float16")
    if factors.user.shape[1] != factors.item.shape[1]:
        raise LayoutError(
            f"K_u is {factors.user.shape[1]} wide and K_i {factors.item.shape[1]}; "
            "they must be equal"
        )
    lengths = {len(factors.user_index), len(factors.item), len(factors.user_category_index)}
    if not lengths <= {1, n}:
        raise LayoutError(f"{n} rows, but items and indexes of lengths {sorted(lengths)}")
