"""The definition of a knowledge row: its parts, their order, their status and their arithmetic.

KEEP (CIKM'22), equation 6: ``K(u, i, c) = [K_u, K_i, K_u * K_i, K_uc]``. Training, export and
serving all take the layout from here, so that what a model sees online is what it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from gkc.errors import LayoutError

Part = Literal["user", "item", "user_item", "user_category"]
PARTS: Final[tuple[Part, ...]] = ("user", "item", "user_item", "user_category")
"""The parts of a row, in the order they always have."""

ABSENT: Final = 0
FOUND: Final = 1
DEFAULT: Final = 2
"""Status of one row and part: zeros, the exported vector, or the generation's default vector."""

F32 = npt.NDArray[np.float32]
F16 = npt.NDArray[np.float16]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]


def part_spans(parts: Sequence[Part], dim: int, category_dim: int) -> dict[Part, tuple[int, int]]:
    """Return the columns of each part in a row made of ``parts``.

    Parameters
    ----------
    parts : sequence of str
        The parts of the row; their given order does not matter, rows always have the fixed order.
    dim, category_dim : int
        Width of K_u and K_i, and of K_uc.

    Returns
    -------
    dict of str to (int, int)
        First column and end column of each part, in row order.

    References
    ----------
    KEEP (CIKM'22), equation 6.
    """
    spans: dict[Part, tuple[int, int]] = {}
    start = 0
    for part in PARTS:
        if part in parts:
            end = start + (category_dim if part == "user_category" else dim)
            spans[part] = (start, end)
            start = end
    return spans


def product_status(user: U8, item: U8) -> U8:
    """Return the status of K_u * K_i from the statuses of its factors.

    Parameters
    ----------
    user, item : ndarray, shape (n,), uint8
        Status of each row's user and item.

    Returns
    -------
    ndarray, shape (n,), uint8
        1 where both are found, 0 where either is absent, else 2.
    """
    status = np.full(user.shape, DEFAULT, dtype=np.uint8)
    status[(user == FOUND) & (item == FOUND)] = FOUND
    status[(user == ABSENT) | (item == ABSENT)] = ABSENT
    return status


@dataclass(frozen=True, slots=True)
class Factors:
    """What the rows of one answer are made of: distinct vectors and an index into them per row.

    Attributes
    ----------
    user : ndarray, shape (U, D), float32
        K_u of each distinct (user, version), in order of first appearance; zeros where absent.
    user_index : ndarray, shape (n,), int64
        Row of ``user`` that each answered row uses.
    item : ndarray, shape (n, D), float32
        K_i of each answered row; zeros where absent.
    user_category : ndarray, shape (P, D_c), float32
        K_uc of each distinct (user, category, version), in order of first appearance; zeros where
        absent.
    user_category_index : ndarray, shape (n,), int64
        Row of ``user_category`` that each answered row uses.
    status : ndarray, shape (n, 4), uint8
        Status of each row and part, columns in the order of `PARTS`.
    """

    user: F32
    user_index: I64
    item: F32
    user_category: F32
    user_category_index: I64
    status: U8


def assemble(factors: Factors, parts: Sequence[Part] = PARTS) -> F32:
    """Lay the parts side by side, one row per request quadruple.

    Parameters
    ----------
    factors : Factors
        Distinct vectors, the rows' indexes into them, and the rows' statuses.
    parts : sequence of str
        Which parts the rows have; always laid out in the order of `PARTS`.

    Returns
    -------
    ndarray, shape (n, width), float32
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
    rows = np.empty((len(factors.item), width), dtype=np.float32)
    for part, (start, end) in spans.items():
        _fill(part, factors, rows[:, start:end])
    return rows


def _fill(part: Part, factors: Factors, out: F32) -> None:
    """Write one part of every row into ``out``, shape (n, D) or (n, D_c)."""
    if part == "user":
        out[...] = factors.user[factors.user_index]
    elif part == "item":
        out[...] = factors.item
    elif part == "user_category":
        out[...] = factors.user_category[factors.user_category_index]
    else:
        np.multiply(factors.user[factors.user_index], factors.item, out=out)
        # Zeros times a negative number are -0.0; an absent part is +0.0 by contract.
        out[factors.status[:, PARTS.index("user_item")] == ABSENT] = 0.0


def _check(factors: Factors) -> None:
    n = len(factors.item)
    vectors = (factors.user, factors.item, factors.user_category)
    if any(v.ndim != 2 or v.dtype != np.float32 for v in vectors):
        raise LayoutError("knowledge vectors must be two-dimensional float32 arrays")
    if factors.user.shape[1] != factors.item.shape[1]:
        raise LayoutError(
            f"K_u is {factors.user.shape[1]} wide and K_i {factors.item.shape[1]}; "
            "they must be equal"
        )
    lengths = {len(factors.user_index), len(factors.user_category_index), len(factors.status)}
    if lengths != {n}:
        raise LayoutError(f"{n} item rows, but indexes and statuses of lengths {sorted(lengths)}")
