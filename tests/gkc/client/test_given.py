"""What containers of other packages hold: missing values, and what is none, named by its type."""

from __future__ import annotations

import re
from collections import UserList
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gkc.errors import InvalidFieldsError
from tests.gkc.client.asking import ask

BIG = 2**63 - 1
NO_ID = " is not an integer within int64, nor a string of 1 to 128 bytes of UTF-8"
NULL = " is null, and every row needs an id"
NAMES = "a string of 1 to 64 of A-Z a-z 0-9 . _ -"


class Held:
    """An array of another package, as numpy sees it."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self._values, dtype=object)


class NAType:
    """What pandas has in the place of a missing integer: it equals nothing, and is no truth."""

    def __eq__(self, other: object) -> Any:
        return self

    def __hash__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


class NullableInts:
    """A column of pandas' ``Int64``: numpy makes floats of it."""

    dtype = "Int64"

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array([np.nan if isinstance(v, NAType) else v for v in self._values])

    def __getitem__(self, place: int) -> Any:
        return self._values[place]

    def tolist(self) -> list[Any]:
        return self._values


class Version(StrEnum):
    A = "a"


@pytest.mark.parametrize(
    "categories",
    [
        [BIG, None],
        [BIG, NAType()],
        [BIG, float("nan")],
        (BIG, np.float32("nan")),
        np.array([BIG, None], dtype=object),
        np.array([BIG, NAType()], dtype=object),
        np.ma.array([BIG, 5], mask=[False, True]),
        NullableInts([BIG, NAType()]),
        pa.array([BIG, None]),
        pa.chunked_array([[BIG], [None]]),
    ],
)
def test_a_missing_category_is_none(categories: Any) -> None:
    columns = ask(c=categories).columns
    assert columns.categories.tolist() == [BIG, 0]
    assert columns.has_category.tolist() == [True, False]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"i": [1, b"2"]}, "/i/1" + NO_ID + ", but a bytes"),
        ({"i": [1.0, 2]}, "/i/0" + NO_ID + ", but a float"),
        ({"i": [1, None]}, "/i/1" + NULL),
        ({"i": [1, float("nan")]}, "/i/1" + NULL),
        ({"i": np.array(["a", NAType()], dtype=object)}, "/i/1" + NULL),
        ({"i": NullableInts([1, NAType()])}, "/i/1" + NULL),
        ({"u": None}, "/u" + NULL),
        ({"u": NAType()}, "/u" + NULL),
        ({"i": [1, Held(2)]}, "/i/1" + NO_ID + ", but a Held"),
        ({"i": pa.array([1, None])}, "/i/1" + NULL),
        ({"i": pa.array([1.5, 2.0])}, "/i/0" + NO_ID + ", but a float"),
        ({"i": list(pa.array([1]))}, "/i/0" + NO_ID + ", but a Int64Scalar"),
        ({"c": [None, b"2"]}, "/c/1" + NO_ID + ", but a bytes"),
        ({"c": NullableInts([1.5, NAType()])}, "/c/0" + NO_ID + ", but a float"),
        (
            {"i": (k for k in [1, 2])},
            "/i" + NO_ID + ", but a generator; make a list of it",
        ),
        ({"u": {7}}, "/u" + NO_ID + ", but a set; make a list of it"),
        ({"c": {3: 4}.values()}, "but a dict_values; make a list of it"),
        ({"c": np.array(5, dtype="M8[ns]")}, "/c" + NO_ID),
        (
            {"v": Held(["a", None])},
            "/v/1 is not a version: " + NAMES,
        ),
        ({"v": Held([["a"]])}, "/v/0 is not a version: " + NAMES),
        (
            {"c": np.array([1.0, np.nan])},
            "/c/1 is missing (NaN), and missing values make integers float64: "
            "pass a list with None there",
        ),
        (
            {"i": np.array([1.0, np.nan], dtype=np.float32)},
            "/i/1 is missing (NaN), and missing values make integers float32: every row needs one",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_type(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFieldsError, match=re.escape(message) + "$"):
        ask(**wrong)


@pytest.mark.parametrize(
    "versions",
    [
        Version.A,
        np.str_("a"),
        np.array("a"),
        [Version.A],
        ["a", np.str_("a")],
        [np.str_("a")],
        np.array(["a"]),
        np.array(["a"], dtype=object),
        Held(["a"]),
        pa.array(["a"]),
        pa.chunked_array([["a"]]),
    ],
)
def test_versions_are_plain_strings_whatever_held_them(versions: Any) -> None:
    (version,) = ask(v=versions).columns.versions
    assert (type(version), version) == (str, "a")


@pytest.mark.parametrize(
    "strings",
    [
        [Version.A, "b\0"],
        [np.str_("a"), np.str_("b\0")],
        np.array(["a", "b\0"], dtype=object),
        UserList(["a", "b\0"]),
    ],
)
def test_ids_are_the_strings_that_subclasses_hold(strings: Any) -> None:
    assert ask(u=Version.A, i=strings).columns.items.tolist() == [b"a", b"b\0"]


@pytest.mark.parametrize("user", [Version.A, np.str_("a")])
def test_one_id_is_the_string_that_a_subclass_holds(user: Any) -> None:
    assert ask(u=user).columns.users.tolist() == [b"a"]
