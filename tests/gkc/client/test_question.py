"""What a caller may give, refused in the service's words."""

from __future__ import annotations

import json
from collections import UserList
from typing import Any

import numpy as np
import pytest

from gkc.errors import InvalidFieldsError
from gkc.http.decoding import decode_json
from gkc.knowledge import PARTS
from tests.gkc.client.asking import ask

BIG = 2**63 - 1


@pytest.mark.parametrize(
    "items",
    [
        [1, 2, BIG],
        (1, 2, BIG),
        np.array([1, 2, BIG]),
        np.array([1, 2, BIG], dtype=">i8"),
        np.array([1, 2, BIG], dtype=np.uint64),
        [np.int64(1), np.uint8(2), BIG],
        np.array([1, 2, BIG], dtype=object),
    ],
)
def test_ids_as_lists_and_arrays(items: Any) -> None:
    assert ask(i=items).columns.items.tolist() == [1, 2, BIG]
    assert ask(c=items, i=1).columns.categories.tolist() == [1, 2, BIG]


@pytest.mark.parametrize(
    "values",
    [
        ["7", 8],
        [8, "7"],
        ["7", np.int64(8)],
        ("7", 8),
        UserList(["7", 8]),
        np.array(["7", 8], dtype=object),
    ],
)
@pytest.mark.parametrize("name", "uic")
def test_numbers_among_strings_are_refused(name: str, values: Any) -> None:
    types = ("a number", "a string") if values[0] == "7" else ("a string", "a number")
    says = f"^/{name}/1 is {types[0]}, but /{name}/0 is {types[1]}, and ids of one kind are all of"
    with pytest.raises(InvalidFieldsError, match=says + " one type$"):
        ask(**{name: values})


@pytest.mark.parametrize("user", [7, np.int32(7), np.array(7), [7], range(7, 8), np.array([7])])
def test_one_id_for_all_rows(user: Any) -> None:
    columns = ask(u=user).columns
    assert (columns.n, columns.users.tolist()) == (2, [7])


def test_categories_may_be_missing_in_rows() -> None:
    columns = ask(c=[np.int16(3), None]).columns
    assert columns.categories.tolist() == [3, 0]
    assert columns.has_category.tolist() == [True, False]


def test_versions_and_parts_as_any_sequence() -> None:
    columns = ask(v=np.array(["a", "b"])).columns
    assert (columns.versions, columns.version_index.tolist()) == (("a", "b"), [0, 1])
    assert ask(parts=("item", "user")).parts == ("user", "item")
    assert ask().parts == PARTS


@pytest.mark.parametrize(
    "wrong",
    [
        {"u": ""},
        {"u": None},
        {"u": True},
        {"u": 7.0},
        {"u": 2**63},
        {"i": [1, 2.5]},
        {"i": [1, True]},
        {"i": [1, None]},
        {"i": ["a", ""]},
        {"i": ["a", 2**63]},
        {"i": ["a", None]},
        {"i": [1, -(2**63) - 1]},
        {"c": ["a", "\N{SNOWMAN}" * 43]},
        {"c": [None, 2**64]},
        {"i": ["1", 2]},
        {"i": [1, "2"]},
        {"c": [None, "1", 2]},
        {"c": [1, None, "2"]},
        {"i": ["a" * 200, 2]},
        {"i": ["a", "b" * 200]},
        {"i": [1, 2, 3], "c": [1, 2]},
        {"u": [1, 2, 3], "v": ["a", "b"]},
        {"v": 20211220},
        {"v": ""},
        {"v": "a b"},
        {"v": ["a", 3]},
        {"v": ["a", "b/c"]},
        {"parts": []},
        {"parts": "user"},
        {"parts": ["user", "name"]},
        {"dtype": "f64"},
    ],
)
def test_a_wrong_value_is_refused_as_a_service_refuses_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidFieldsError) as here:
        ask(**wrong)
    body = {"u": 7, "i": [1, 2], "v": "v1"} | wrong
    with pytest.raises(InvalidFieldsError) as there:
        decode_json(json.dumps(body).encode(), 10)
    for mine, theirs in zip(here.value.errors, there.value.errors, strict=True):
        assert mine.field == theirs.field
        assert mine.detail.startswith(theirs.detail)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"i": np.array([1.0, 2.0])}, "/i/0"),
        ({"i": np.array([True])}, "/i/0"),
        ({"i": np.array([1, 2**63], dtype=np.uint64)}, "/i/1"),
        ({"i": np.ones((2, 2), dtype=np.int64)}, "/i"),
        ({"u": np.float32(1)}, "/u"),
        ({"c": np.array([1.5])}, "/c/0"),
        ({"i": np.array(["a", ""])}, "/i/1"),
        ({"i": np.array([b"a"])}, "/i/0"),
        ({"u": object()}, "/u"),
        ({"v": {"a"}}, "/v"),
    ],
)
def test_a_wrong_array_is_refused(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        ask(**wrong)
    assert [error.field for error in caught.value.errors] == [field]
