"""Grouping against loops over rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.service.grouping import distinct, distinct_pairs, find_pairs, merged_order

pytestmark = pytest.mark.usefixtures("either_way")
small = st.integers(-3, 3)
far = st.sampled_from([-(2**63), -9_000, -1, 0, 1, 4_094, 4_095, 4_096, 2**63 - 1])
"""Beyond the range in which values are told apart by a table, and its edges."""


def array(
    values: object, dtype: type = np.int64
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, dtype=dtype)


@given(values=st.lists(small, max_size=20) | st.lists(far, max_size=20))
def test_distinct_keeps_first_appearances(values: list[int]) -> None:
    found, index, first = distinct(array(values), len(values))
    expected = list(dict.fromkeys(values))
    assert found.tolist() == expected
    assert [expected[k] for k in index.tolist()] == values
    assert first.tolist() == [values.index(v) for v in expected]


def test_one_value_stands_for_all_rows() -> None:
    found, index, first = distinct(array([7]), 3)
    assert (found.tolist(), index.tolist(), first.tolist()) == ([7], [0], [0])
    found, index, first = distinct(array([7]), 0)
    assert (len(found), len(index), len(first)) == (0, 0, 0)


@given(rows=st.lists(st.tuples(st.integers(0, 2), st.none() | small | far), max_size=20))
def test_distinct_pairs_tell_no_category_from_any(rows: list[tuple[int, int | None]]) -> None:
    pairs = distinct_pairs(
        array([u for u, _ in rows]),
        array([c or 0 for _, c in rows]),
        np.array([c is not None for _, c in rows], dtype=bool),
    )
    expected = list(dict.fromkeys(rows))
    found = zip(
        pairs.users.tolist(), pairs.categories.tolist(), pairs.has_category.tolist(), strict=True
    )
    assert [(u, c if has else None) for u, c, has in found] == expected
    assert [expected[k] for k in pairs.index.tolist()] == rows
    assert pairs.first.tolist() == [rows.index(pair) for pair in expected]


@given(
    stored=st.lists(st.sets(st.integers(-9, 9)), min_size=1, max_size=5),
    asked=st.lists(st.tuples(st.integers(0, 4), st.integers(-10, 10)), max_size=20),
)
def test_find_pairs_searches_each_user_s_own_categories(
    stored: list[set[int]], asked: list[tuple[int, int]]
) -> None:
    flat = [(u, c) for u, categories in enumerate(stored) for c in sorted(categories)]
    asked = [(u % len(stored), c) for u, c in asked]
    found = find_pairs(
        np.cumsum([0, *map(len, stored)], dtype=np.int64),
        array([c for _, c in flat]),
        array([u for u, _ in asked]),
        array([c for _, c in asked]),
    )
    assert found.tolist() == [flat.index(pair) if pair in flat else -1 for pair in asked]


@given(lists=st.lists(st.lists(st.integers(0, 99)), min_size=1, max_size=4))
def test_merged_order_sorts_and_inverts(lists: list[list[int]]) -> None:
    order, rank = merged_order([array(values) for values in lists])
    flat = [value for values in lists for value in values]
    assert [flat[k] for k in order.tolist()] == sorted(flat)
    assert order[rank].tolist() == list(range(len(flat)))
