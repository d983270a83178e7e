"""Which distinct users and pairs the rows of a request name. No row loops but compiled ones."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gkc.arrays import I64, Bools
from gkc.kernels import kernels

_SEED: Final = np.uint64(secrets.randbits(64))
"""So that nobody can choose values that all fall into one place of a table."""
_TABLE_VALUES: Final = 4096
"""Values within so narrow a range, such as categories, are told apart by a table, not sorted."""


def distinct(values: I64, n: int) -> tuple[I64, I64, I64]:
    """Return the distinct values of a column, in order of first appearance.

    Parameters
    ----------
    values : ndarray, shape (1,) or (n,), int64
        One element stands for all rows.
    n : int
        Number of rows.

    Returns
    -------
    values : ndarray, shape (U,), int64
    index : ndarray, shape (n,) or (1,), int64
        Which of them each row has; one element stands for all rows.
    first : ndarray, shape (U,), int64
        The row in which each appears first.
    """
    values = values[:n]
    if len(values) <= 1:
        zeros = np.zeros(len(values), dtype=np.int64)
        return values, zeros, zeros
    first, index = _first_appearances(values)
    return values[first], index, first


@dataclass(frozen=True, slots=True)
class Pairs:
    """The distinct pairs of a user and a category, or of a user and none, that some rows name.

    Attributes
    ----------
    users : ndarray, shape (P,), int64
        Position of each pair's user among the distinct users.
    categories : ndarray, shape (P,), int64
    has_category : ndarray, shape (P,), bool
    index : ndarray, shape (n,), int64
        Which pair each row has.
    first : ndarray, shape (P,), int64
        The row in which each pair appears first; ascending.
    """

    users: I64
    categories: I64
    has_category: Bools
    index: I64
    first: I64


def distinct_pairs(user_index: I64, categories: I64, has_category: Bools) -> Pairs:
    """Return the distinct pairs of these rows, in order of first appearance.

    Parameters
    ----------
    user_index : ndarray, shape (n,), int64
        Which distinct user each row has.
    categories : ndarray, shape (n,), int64
    has_category : ndarray, shape (n,), bool
        False in rows without a category, whatever ``categories`` says there.
    """
    known, category_index = _first_appearances(categories)
    none = len(known)
    codes = np.where(has_category, category_index, none) + user_index * (none + 1)
    first, index = _first_appearances(codes)
    return Pairs(user_index[first], categories[first], has_category[first], index, first)


def find_pairs(offsets: I64, stored: I64, users: I64, categories: I64) -> I64:
    """Return where each pair is among the stored ones: a binary search in each user's stretch.

    Parameters
    ----------
    offsets : ndarray, shape (U + 1,), int64
        User ``k`` has the stored categories ``offsets[k]`` to ``offsets[k + 1]``.
    stored : ndarray, shape (S,), int64
        Categories, ascending within each user.
    users, categories : ndarray, shape (P,) or (1,), int64
        The pairs to find; users by their position.

    Returns
    -------
    ndarray, shape (P,), int64
        Position in ``stored``; -1 where the user has no such category.
    """
    if loops := kernels():
        places = np.empty(len(categories) if len(users) == 1 else len(users), dtype=np.int64)
        loops.find_pairs(offsets, stored, users, categories, places)
        return places
    if not len(stored) or not len(users):
        return np.full(np.broadcast_shapes(users.shape, categories.shape), -1, dtype=np.int64)
    last = len(stored) - 1
    if len(offsets) == 2:  # one user, the usual request: numpy searches one ascending stretch
        place = stored.searchsorted(categories)
        return np.where(stored.take(place, mode="clip") == categories, place, -1)
    low, end = offsets[users], offsets[users + 1]
    high = end
    for _ in range(int((end - low).max()).bit_length()):
        middle = (low + high) // 2
        is_less = (low < high) & (stored[np.minimum(middle, last)] < categories)
        low = np.where(is_less, middle + 1, low)
        high = np.where(is_less, high, middle)
    is_found = (low < end) & (stored[np.minimum(low, last)] == categories)
    return np.where(is_found, low, -1)


def merged_order(firsts: Sequence[I64]) -> tuple[I64, I64]:
    """Merge several lists of first appearances, all counted in rows of one request.

    Returns
    -------
    order : ndarray, shape (total,), int64
        The concatenated lists' positions in order of first appearance.
    rank : ndarray, shape (total,), int64
        The inverse: each concatenated position's place in that order.
    """
    return _ranked(np.concatenate(firsts))


def _first_appearances(values: I64) -> tuple[I64, I64]:
    """Return the rows in which a value appears first, ascending, and for each row which of them."""
    if not len(values):
        return values, values
    if loops := kernels():
        first, index = np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.int64)
        slots = np.full(2 << len(values).bit_length(), -1, dtype=np.int64)
        return first[: loops.first_appearances(values, _SEED, slots, first, index)], index
    low, high = int(values.min()), int(values.max())
    if high - low >= _TABLE_VALUES:
        _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        order, rank = _ranked(first)
        return first[order], rank[inverse]
    rows = np.arange(len(values), dtype=np.int64)
    codes = values - low
    first_of = np.full(high - low + 1, len(values), dtype=np.int64)
    np.minimum.at(first_of, codes, rows)
    first = first_of[codes]
    is_first = first == rows
    rank = np.cumsum(is_first) - 1
    return np.flatnonzero(is_first), rank[first]


def _ranked(first: I64) -> tuple[I64, I64]:
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order), dtype=np.int64)
    return order, rank
