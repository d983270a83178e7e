from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.features import Feature, ListColumn, cast_values

INT_TYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
INTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(
        [s * 2**k + d for k in (7, 8, 15, 31, 32, 53, 62) for d in (-1, 0, 1) for s in (-1, 1)]
    ),
)


def slow_padded(lists: list[list[int]], width: int) -> list[list[int]]:
    """The definition: the last elements, then zeros."""
    return [(row[-width:] + [0] * width)[:width] for row in lists]


@given(
    st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=7), max_size=9),
    st.integers(1, 9),
    st.data(),
)
def test_lists_are_padded_and_cut_as_defined(
    lists: list[list[int]], width: int, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=12)) if lists else []
    lengths = np.array([len(row) for row in lists], dtype=np.int64)
    column = ListColumn(
        np.array([v for row in lists for v in row], dtype=np.int64),
        np.cumsum(lengths) - lengths,
        lengths,
    )
    padded = column.padded(np.array(rows, dtype=np.int64), width)
    assert padded.dtype == np.int64
    assert padded.shape == (len(rows), width)
    assert padded.tolist() == slow_padded([lists[r] for r in rows], width)


@given(st.lists(INTS, max_size=20), st.sampled_from(INT_TYPES))
def test_an_integer_keeps_its_value_or_is_named(values: list[int], dtype: str) -> None:
    limits = np.iinfo(dtype)
    fits = [limits.min <= v <= limits.max for v in values]
    cast, unfit = cast_values(np.array(values, dtype=np.int64), np.dtype(dtype))
    assert cast.dtype == dtype
    if all(fits):
        assert unfit is None
        assert cast.tolist() == values
    else:
        assert unfit == fits.index(False)


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True) | INTS.map(float), max_size=20),
    st.sampled_from(INT_TYPES),
)
def test_a_float_becomes_an_integer_only_if_it_is_one(values: list[float], dtype: str) -> None:
    limits = np.iinfo(dtype)
    fits = [math.isfinite(v) and v == int(v) and limits.min <= int(v) <= limits.max for v in values]
    cast, unfit = cast_values(np.array(values, dtype=np.float64), np.dtype(dtype))
    if all(fits):
        assert unfit is None
        assert cast.tolist() == [int(v) for v in values]
    else:
        assert unfit == fits.index(False)


@pytest.mark.parametrize("dtype", INT_TYPES)
@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
def test_floats_at_the_end_of_an_integer_type_fit_or_are_named(source: str, dtype: str) -> None:
    limits, largest = np.iinfo(dtype), np.finfo(source).max
    inside = np.array(max(float(limits.min), -float(largest)), source)
    beyond = [-np.inf, np.inf, np.nan, 0.5, float(limits.max) + 1]
    cast, unfit = cast_values(np.array([1, inside, 7], source), np.dtype(dtype))
    assert unfit is None
    assert cast.tolist() == [1, int(inside), 7]
    for value in beyond:
        with np.errstate(over="ignore"):
            values = np.array([1, inside, value, value], np.float64).astype(source)
        assert cast_values(values, np.dtype(dtype))[1] == 2, value


@given(st.lists(INTS, max_size=20), st.sampled_from(["float16", "float32", "float64"]))
def test_an_integer_becomes_the_nearest_float(values: list[int], dtype: str) -> None:
    given_values = np.array(values, dtype=np.int64)
    cast, unfit = cast_values(given_values, np.dtype(dtype))
    with np.errstate(over="ignore"):
        expected = given_values.astype(dtype)
    if np.isinf(expected).any():
        assert unfit == int(np.isinf(expected).argmax())
    else:
        assert unfit is None
        assert np.array_equal(cast, expected)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (np.array([0, 3, -1]), "bool", [False, True, True]),
        (np.array([0.0, 0.5]), "bool", [False, True]),
        (np.array([True, False]), "int32", [1, 0]),
        (np.array([True, False]), "float32", [1.0, 0.0]),
        (np.array([np.inf, -np.inf]), "float32", [np.inf, -np.inf]),
        (np.array([1, 2], np.uint64), "int64", [1, 2]),
        (np.zeros(0), "int64", []),
    ],
)
def test_casts_that_always_fit(values: Any, dtype: str, expected: list[Any]) -> None:
    cast, unfit = cast_values(values, np.dtype(dtype))
    assert unfit is None
    assert cast.dtype == dtype
    assert cast.tolist() == expected


def test_a_float_that_would_become_infinite_is_named() -> None:
    _, unfit = cast_values(np.array([1.0, 1e300, 1e301]), np.dtype(np.float32))
    assert unfit == 1
    _, unfit = cast_values(np.array([1.0, 70000.0]), np.dtype(np.float16))
    assert unfit == 1


def test_features_of_one_column_differ_by_type() -> None:
    narrow = Feature("age", np.dtype(np.int32), False, "a")
    assert narrow.key != Feature("age", np.dtype(np.int64), False, "a").key
    assert narrow == Feature("age", np.dtype(np.int32), False, "b")
