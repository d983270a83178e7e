"""Columns as tensors, there and back; what holds no column is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.center.tensors import category_tensor, id_tensor, tensors_of
from gkc.errors import InvalidFieldsError
from gkc.strings import StringIds

ids = st.text(min_size=1, max_size=30)


@given(st.lists(ids, max_size=10))
def test_strings_there_and_back(texts: list[str]) -> None:
    column = id_tensor("u", tensors_of("u", StringIds.of_text(texts)))
    assert column.tolist() == [text.encode() for text in texts]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=10))
def test_numbers_there_and_back(numbers: list[int]) -> None:
    column = id_tensor("u", tensors_of("u", np.array(numbers, dtype=np.int64)))
    assert column.tolist() == numbers


def bytes_of(raw: bytes) -> Any:
    return np.frombuffer(raw, dtype=np.uint8)


def offsets(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("tensors", "field", "detail"),
    [
        ({"c": bytes_of(b"ab")}, "/c", "must be an I64 tensor .* beside c_offsets, not uint8"),
        ({"c": np.ones((2, 2), np.int64)}, "/c", "not int64 of shape"),
        ({"c": offsets(1), "c_offsets": offsets(0, 1)}, "/c", "must be a U8 tensor"),
        ({"c": bytes_of(b"ab"), "c_offsets": offsets()}, "/c_offsets", "must be an I64 tensor"),
        (
            {"c": bytes_of(b"ab"), "c_offsets": np.zeros(2, np.int32)},
            "/c_offsets",
            "must be an I64 tensor of shape .*, not int32 of shape",
        ),
        ({"c": bytes_of(b"ab"), "c_offsets": offsets(0, 1)}, "/c_offsets", "from 0 to the 2 bytes"),
        ({"c": bytes_of(b"ab"), "c_offsets": offsets(1, 2)}, "/c_offsets", "from 0 to the 2 bytes"),
        ({"c": bytes_of(b"ab"), "c_offsets": offsets(0, 3, 2)}, "/c_offsets", "must ascend"),
        (
            {"c": bytes_of(b"ab"), "c_offsets": offsets(0, 2, 2)},
            "/c/1",
            "^/c/1 is a string of 0 bytes, not 1 to 128 of UTF-8$",
        ),
        (
            {"c": bytes_of(b"a\xff"), "c_offsets": offsets(0, 1, 2)},
            "/c/1",
            "bytes that are not UTF",
        ),
        ({"c_offsets": offsets(0)}, "/c_offsets", "cannot be without a tensor c"),
        ({"c_given": bytes_of(b"\1")}, "/c_given", "cannot be without a tensor c"),
        ({"c": offsets(1), "c_given": bytes_of(b"\1\2")}, "/c_given", "not 2 as in element 1,"),
        ({"c": offsets(1), "c_given": offsets(1)}, "/c_given", "must be a U8 tensor"),
        (
            {"c": offsets(1, 2), "c_given": bytes_of(b"\1\1\1")},
            "/c_given",
            "has 3 elements for the 2 of c",
        ),
    ],
)
def test_what_is_no_column_is_refused(tensors: dict[str, Any], field: str, detail: str) -> None:
    with pytest.raises(InvalidFieldsError, match=detail) as caught:
        category_tensor(tensors)
    assert [error.field for error in caught.value.errors] == [field]


def test_where_categories_are_given() -> None:
    assert category_tensor({}) == (None, None)
    for tensors, expected in [
        ({"c": offsets(3, 4)}, [3, 4]),
        ({"c": offsets(3, 4), "c_given": bytes_of(b"\1\0")}, [3, None]),
        ({"c": offsets(3), "c_given": bytes_of(b"\0\1")}, [None, 3]),
        ({"c": offsets(3, 4), "c_given": bytes_of(b"\1")}, [3, 4]),
        ({"c": bytes_of(b"ab"), "c_offsets": offsets(0, 0, 2), "c_given": bytes_of(b"\0\1")},
         [None, b"ab"]),
        ({"c": bytes_of(b""), "c_offsets": offsets(0, 0), "c_given": bytes_of(b"\0")}, [None]),
    ]:  # fmt: skip
        categories, given = category_tensor(tensors)
        assert categories is not None
        assert given is not None
        told = zip(categories.tolist(), given.tolist(), strict=True)
        assert [c if is_given else None for c, is_given in told] == expected
