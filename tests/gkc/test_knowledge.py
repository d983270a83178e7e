"""A knowledge row is what equation 6 says, row by row and to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.errors import LayoutError
from gkc.knowledge import (
    ABSENT,
    DEFAULT,
    FOUND,
    PARTS,
    Factors,
    assemble,
    part_spans,
    product_status,
)
from gkc.knowledge import Part as PartName


def make_factors(n: int = 6, dim: int = 3, category_dim: int = 2, seed: int = 0) -> Factors:
    rng = np.random.default_rng(seed)
    status = rng.integers(0, 3, (n, 4)).astype(np.uint8)
    user = rng.standard_normal((4, dim)).astype(np.float32)
    user_index = rng.integers(0, 4, n).astype(np.int64)
    user[0] = 0.0  # one who is absent
    status[:, 0] = np.where(user_index == 0, ABSENT, FOUND)
    item = -np.abs(rng.standard_normal((n, dim))).astype(np.float32)
    item[status[:, 1] == ABSENT] = 0.0
    status[:, 2] = product_status(status[:, 0], status[:, 1])
    return Factors(
        user=user,
        user_index=user_index,
        item=item,
        user_category=rng.standard_normal((5, category_dim)).astype(np.float32),
        user_category_index=rng.integers(0, 5, n).astype(np.int64),
        status=status,
    )


def row_by_row(factors: Factors, parts: list[PartName]) -> list[list[float]]:
    """The definition: for each row, the chosen parts in the fixed order."""
    rows = []
    for k in range(len(factors.item)):
        user = factors.user[factors.user_index[k]]
        values: dict[PartName, list[np.float32]] = {
            "user": list(user),
            "item": list(factors.item[k]),
            "user_item": [u * i for u, i in zip(user, factors.item[k], strict=True)],
            "user_category": list(factors.user_category[factors.user_category_index[k]]),
        }
        if factors.status[k, 2] == ABSENT:
            values["user_item"] = [np.float32(0)] * factors.item.shape[1]
        rows.append([float(x) for part in PARTS if part in parts for x in values[part]])
    return rows


@given(
    n=st.integers(0, 8),
    dim=st.integers(1, 5),
    category_dim=st.integers(1, 5),
    seed=st.integers(0, 1000),
    parts=st.lists(st.sampled_from(PARTS), unique=True),
)
def test_assemble_equals_the_definition(
    n: int, dim: int, category_dim: int, seed: int, parts: list[PartName]
) -> None:
    factors = make_factors(n, dim, category_dim, seed)
    rows = assemble(factors, parts)
    spans = part_spans(parts, dim, category_dim)
    assert rows.dtype == np.float32
    assert rows.shape == (n, max((end for _, end in spans.values()), default=0))
    expected = np.array(row_by_row(factors, parts), dtype=np.float32).reshape(rows.shape)
    np.testing.assert_array_equal(rows.view(np.uint32), expected.view(np.uint32))


@given(
    n=st.integers(0, 20),
    dim=st.integers(1, 5),
    category_dim=st.integers(1, 5),
    seed=st.integers(0, 1000),
    parts=st.lists(st.sampled_from(PARTS), unique=True),
    halves=st.booleans(),
)
def test_f16_rows_are_the_f32_ones_rounded_once(
    n: int, dim: int, category_dim: int, seed: int, parts: list[PartName], halves: bool
) -> None:
    factors = make_factors(n, dim, category_dim, seed)
    if halves:  # as an f16 store keeps them
        names = ("user", "item", "user_category")
        stored = {name: getattr(factors, name).astype(np.float16) for name in names}
        factors = replace(factors, **stored)
    rows = assemble(factors, parts, np.float16)
    assert rows.dtype == np.float16
    expected = assemble(factors, parts).astype(np.float16)
    np.testing.assert_array_equal(rows.view(np.uint16), expected.view(np.uint16))


@given(seed=st.integers(0, 1000), n=st.integers(1, 9), dtype=st.sampled_from((np.float32, "f2")))
def test_one_element_stands_for_all_rows(seed: int, n: int, dtype: str) -> None:
    one = make_factors(1, seed=seed)
    status = np.repeat(one.status, n, axis=0)
    repeated = replace(
        one,
        user_index=np.repeat(one.user_index, n),
        item=np.repeat(one.item, n, axis=0),
        user_category_index=np.repeat(one.user_category_index, n),
        status=status,
    )
    expected = assemble(repeated, dtype=dtype)
    np.testing.assert_array_equal(assemble(replace(one, status=status), dtype=dtype), expected)


def test_all_parts_are_side_by_side_by_default() -> None:
    factors = make_factors(dim=3, category_dim=2)
    rows = assemble(factors)
    assert rows.shape == (6, 3 * 3 + 2)
    np.testing.assert_array_equal(rows[:, 3:6], factors.item)


def test_an_absent_product_is_positive_zero() -> None:
    factors = Factors(
        user=np.zeros((1, 2), dtype=np.float32),
        user_index=np.zeros(1, dtype=np.int64),
        item=np.array([[-1.0, -2.0]], dtype=np.float32),
        user_category=np.zeros((1, 1), dtype=np.float32),
        user_category_index=np.zeros(1, dtype=np.int64),
        status=np.array([[ABSENT, FOUND, ABSENT, ABSENT]], dtype=np.uint8),
    )
    assert not np.signbit(assemble(factors)[:, 4:]).any()
    # But what is found keeps its own sign of zero.
    found = replace(factors, status=np.full((1, 4), FOUND, dtype=np.uint8))
    assert np.signbit(assemble(found, ["user_item"])).all()


def test_rows_do_not_alias_the_factors() -> None:
    factors = make_factors()
    before = factors.item.copy()
    assemble(factors, ["item"])[:] = 9
    np.testing.assert_array_equal(factors.item, before)


def test_spans_have_the_fixed_order() -> None:
    assert part_spans(PARTS, 64, 32) == {
        "user": (0, 64),
        "item": (64, 128),
        "user_item": (128, 192),
        "user_category": (192, 224),
    }
    chosen = part_spans(["user_category", "item"], 64, 32)
    assert list(chosen.items()) == [("item", (0, 64)), ("user_category", (64, 96))]
    assert part_spans([], 64, 32) == {}


@pytest.mark.parametrize(
    ("user", "item", "product"),
    [
        (FOUND, FOUND, FOUND),
        (FOUND, DEFAULT, DEFAULT),
        (DEFAULT, FOUND, DEFAULT),
        (DEFAULT, DEFAULT, DEFAULT),
        (ABSENT, FOUND, ABSENT),
        (FOUND, ABSENT, ABSENT),
        (ABSENT, DEFAULT, ABSENT),
        (DEFAULT, ABSENT, ABSENT),
        (ABSENT, ABSENT, ABSENT),
    ],
)
def test_the_status_of_a_product(user: int, item: int, product: int) -> None:
    status = product_status(np.array([user], dtype=np.uint8), np.array([item], dtype=np.uint8))
    assert status.tolist() == [product]
    assert status.dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"user": np.zeros((4, 2), dtype=np.float32)}, "K_u is 2 wide and K_i 3"),
        ({"item": np.zeros((6, 3), dtype=np.float64)}, "float32 or float16"),
        ({"user": np.zeros(3, dtype=np.float32)}, "two-dimensional"),
        ({"user_index": np.zeros(5, dtype=np.int64)}, r"6 rows, but .* lengths \[5, 6\]"),
        ({"user_category_index": np.zeros(7, dtype=np.int64)}, r"6 rows, but .* \[6, 7\]"),
        ({"status": np.zeros((2, 4), dtype=np.uint8)}, r"2 rows, but .* \[6\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], match: str
) -> None:
    with pytest.raises(LayoutError, match=match):
        assemble(replace(make_factors(), **change))  # type: ignore[arg-type]
