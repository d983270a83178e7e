from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exporter.vectors import largest_row
from exporter.writer import product_overflows

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 5)), elements=FLOATS))
def test_the_largest_value_is_found_with_its_row(vectors: np.ndarray) -> None:
    value, row = largest_row(vectors)
    if len(vectors):
        assert value == np.abs(vectors).max()
        assert np.abs(vectors[row]).max() == value
    else:
        assert (value, row) == (0.0, 0)


@pytest.mark.parametrize(
    ("user", "item", "overflows"),
    [(1.0, 1.0, False), (1e19, 1e19, False), (1e19, 1e20, True), (0.0, 3e38, False)],
)
def test_a_product_overflows_beyond_float32(user: float, item: float, overflows: bool) -> None:
    assert product_overflows(user, item) == overflows
