"""What a request may say, and which field is named when it says something else."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from gkc.center.question import Question
from gkc.errors import (
    BatchTooLargeError,
    GkcError,
    InvalidFieldsError,
    MalformedBodyError,
    RequestError,
)
from gkc.http.decoding import decode_json, decode_safetensors
from gkc.http.problems import problem_of

GOOD = {"u": 7, "i": [11, 12], "v": "v1"}
ROW = {"u": 7, "i": 11, "v": "v1"}
INT64 = st.integers(-(2**63), 2**63 - 1)


def decoded(value: Any, max_rows: int = 100) -> Question:
    return decode_json(json.dumps(value).encode(), max_rows)


def fields_at_fault(value: Any) -> list[str]:
    with pytest.raises(InvalidFieldsError) as caught:
        decoded(value)
    return [e.field for e in caught.value.errors]


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ([], [""]),
        (3, [""]),
        ({}, ["/u", "/i", "/v"]),
        ({"u": 7, "i": 11}, ["/v"]),
        (GOOD | {"i": [1, 2, 3.0]}, ["/i/2"]),
        (GOOD | {"i": [1, True]}, ["/i/1"]),
        (GOOD | {"i": ["2", ""]}, ["/i/1"]),
        (GOOD | {"i": [1, "\N{SNOWMAN}" * 43]}, ["/i/1"]),
        (GOOD | {"i": ["2", None]}, ["/i/1"]),
        (GOOD | {"i": ["2", 2**64]}, ["/i/1"]),
        (GOOD | {"i": ["2", "\ud800"]}, ["/i/1"]),
        (GOOD | {"c": [None, "3", ""]}, ["/c/2"]),
        (GOOD | {"i": [1, None]}, ["/i/1"]),
        (GOOD | {"i": [2**63, 1]}, ["/i/0"]),
        (GOOD | {"i": [1, -(2**63) - 1]}, ["/i/1"]),
        (GOOD | {"i": [1, 2**64]}, ["/i/1"]),
        (GOOD | {"i": [[1], 2]}, ["/i/0"]),
        (GOOD | {"u": None}, ["/u"]),
        (GOOD | {"u": {}}, ["/u"]),
        (GOOD | {"u": 1e3}, ["/u"]),
        (GOOD | {"c": [None, 1.5]}, ["/c/1"]),
        (GOOD | {"c": "x" * 129}, ["/c"]),
        (GOOD | {"c": False}, ["/c"]),
        (GOOD | {"v": 20211220}, ["/v"]),
        (GOOD | {"v": ["v1", 20211220]}, ["/v/1"]),
        (GOOD | {"v": None}, ["/v"]),
        (GOOD | {"v": ""}, ["/v"]),
        (GOOD | {"v": ["v1", "v/2"]}, ["/v/1"]),
        (GOOD | {"v": "x" * 65}, ["/v"]),
        (GOOD | {"v": "v1\n"}, ["/v"]),
        (GOOD | {"u": [1, 2, 3]}, ["/u", "/i"]),
        (GOOD | {"c": []}, ["/i", "/c"]),
        (GOOD | {"w": 1, "a/b~": 2}, ["/a~1b~0", "/w"]),
        (GOOD | {"quadruples": []}, ["/i", "/u", "/v"]),
        (GOOD | {"parts": []}, ["/parts"]),
        (GOOD | {"parts": "user"}, ["/parts"]),
        (GOOD | {"parts": ["user", "shop"]}, ["/parts/1"]),
        (GOOD | {"parts": ["user", ["item"]]}, ["/parts/1"]),
        (GOOD | {"dtype": "f64"}, ["/dtype"]),
        (GOOD | {"dtype": None}, ["/dtype"]),
        (GOOD | {"layout": "columns"}, ["/layout"]),
        (GOOD | {"layout": ["rows"]}, ["/layout"]),
        *((GOOD | {"allow_stale": x}, ["/allow_stale"]) for x in (-1, -0.5, True, "1", None, [1])),
        ({"quadruples": [ROW], "allow_stale": -1}, ["/allow_stale"]),
        ({"quadruples": {}}, ["/quadruples"]),
        ({"quadruples": [ROW, 3]}, ["/quadruples/1"]),
        ({"quadruples": [ROW, {"u": 7, "v": "v1"}]}, ["/quadruples/1/i"]),
        ({"quadruples": [ROW, ROW | {"w": 1}]}, ["/quadruples/1/w"]),
        ({"quadruples": [ROW, {"u": 7, "v": "v1"}, ROW | {"w": 1}]}, ["/quadruples/1/i"]),
        ({"quadruples": [ROW, ROW | {"w": 1}, {"u": 7, "v": "v1"}]}, ["/quadruples/1/w"]),
        ({"quadruples": [ROW, ROW | {"u": 1.5}]}, ["/quadruples/1/u"]),
        ({"quadruples": [ROW, ROW | {"i": None}]}, ["/quadruples/1/i"]),
        ({"quadruples": [ROW, ROW | {"c": ""}]}, ["/quadruples/1/c"]),
        ({"quadruples": [ROW, ROW | {"v": 3}]}, ["/quadruples/1/v"]),
        ({"quadruples": [ROW], "w": 1}, ["/w"]),
    ],
)
def test_wrong_values_are_named(value: Any, fields: list[str]) -> None:
    assert fields_at_fault(value) == fields


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            {"user": 1},
            "/user is not a known field (known: allow_stale, c, dtype, i, layout, parts, u, v)",
        ),
        (GOOD | {"u": None}, "/u is null, and every row needs an id"),
        (GOOD | {"i": ["a", None]}, "/i/1 is null, and every row needs an id"),
        (GOOD | {"u": "é" * 100}, "/u is a string of 200 bytes, not 1 to 128 of UTF-8"),
        (GOOD | {"i": ["a", ""]}, "/i/1 is a string of 0 bytes, not 1 to 128 of UTF-8"),
    ],
)
def test_what_is_wrong_is_said(value: Any, says: str) -> None:
    with pytest.raises(InvalidFieldsError, match=f"^{re.escape(says)}$"):
        decoded(value)


@pytest.mark.parametrize(
    "number",
    ["1.0", "1e2", "18446744073709551616", "-9223372036854775809", "1e400", "-1" + "0" * 9000],
)
def test_numbers_that_are_no_int64_are_named(number: str) -> None:
    with pytest.raises(InvalidFieldsError, match="/i/1 is not an integer within int64"):
        decode_json(b'{"u":1,"v":"x","i":[1,%s]}' % number.encode(), 10)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (rb'{"u": 7, "i": "\ud800", "v": "v1"}', "/i"),
        (rb'{"u": 7, "i": 11, "v": "\udc00"}', "/v"),
        (rb'{"u": 7, "i": 11, "v": "v1", "w\ud800": 1}', r"/w\ud800"),
    ],
)
def test_half_a_surrogate_pair_is_named(body: bytes, field: str) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        decode_json(body, 10)
    assert [e.field for e in caught.value.errors] == [field]
    assert problem_of(caught.value).body()


def test_a_number_as_version_is_told_so() -> None:
    with pytest.raises(InvalidFieldsError, match="is a number; a version is a string"):
        decoded(GOOD | {"v": 20211220})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"u": NaN}',
        "{}".encode("utf-16"),
        b"\xff",
        b'{"u": 1}}',
        b"[" * 2000,
        b'{"u": 1e400',
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBodyError, match="not JSON"):
        decode_json(body, 10)


@pytest.mark.parametrize(
    "body",
    [
        b'{"u": "x", "u": 7, "i": 11, "v": "v1"}',
        b'{"u": 8, "u": 7, "i": [1, 2], "i": 11, "v": "v2", "v": "v1"}',
        b'{"u": 7, "i": 11, "v": "v1", "c": "x", "c": null, "dtype": "f64", "dtype": "f32"}',
        b'{"u": 8, "u": 7, "i": ["a", "b"], "i": 11, "v": 3, "v": "v1"}',
        b'{"quadruples": 3, "quadruples": [{"u": 8, "u": 7, "i": 11, "v": 3, "v": "v1"}]}',
    ],
)
def test_of_repeated_keys_the_last_counts(body: bytes) -> None:
    columns = decode_json(body, 10).columns
    assert (columns.users.tolist(), columns.items.tolist()) == ([7], [11])
    assert columns.versions == ("v1",)
    assert columns.has_category is None or not columns.has_category.any()


@given(u=INT64, ids=st.lists(INT64, min_size=2), c=st.lists(st.none() | INT64, min_size=2))
def test_columns_keep_every_int64(u: int, ids: list[int], c: list[int | None]) -> None:
    n = min(len(ids), len(c))
    columns = decoded({"u": u, "i": ids[:n], "c": c[:n], "v": "v1"}).columns
    assert columns.n == n
    assert columns.users.tolist() == [u]
    assert columns.items.tolist() == ids[:n]
    assert isinstance(columns.items, np.ndarray)
    assert columns.items.dtype == np.int64
    assert columns.has_category is not None
    assert columns.has_category.tolist() == [x is not None for x in c[:n]]
    assert columns.categories is not None
    assert columns.categories.tolist() == [x or 0 for x in c[:n]]


ids = st.text(min_size=1, max_size=12) | st.sampled_from(["a", "", "x" * 129, "\\"])
asked = {
    "u": ids | st.lists(ids, min_size=2, max_size=2) | INT64,
    "i": st.lists(ids, min_size=2, max_size=2),
    "v": st.just("v1") | st.just(["v1", "v2"]),
}
may_be_asked = {
    "c": st.none() | ids | st.lists(ids | st.none() | INT64, min_size=2, max_size=2),
    "dtype": st.sampled_from(["f16", "f64"]),
    "w": st.integers(),
}


@given(st.fixed_dictionaries(asked, optional=may_be_asked), st.sampled_from((None, 1)))
def test_strings_are_read_alike_however_they_are_said(
    value: dict[str, Any], indent: int | None
) -> None:
    plain = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    hidden = plain.replace(b'"i"', rb'"\u0069"', 1)  # where nobody looks for strings in the text
    assert read_or_told(plain) == read_or_told(hidden)


def read_or_told(body: bytes) -> list[Any]:
    """Return what a question is, as values that can be compared, or what is wrong with it."""
    try:
        question = decode_json(body, 10)
    except InvalidFieldsError as exc:
        return [exc.errors]
    columns = question.columns
    listed = (columns.users, columns.items, columns.categories, columns.has_category)
    values = [(type(ids), None if ids is None else ids.tolist()) for ids in listed]
    return [*values, columns.versions, columns.pointers, question.dtype]


def test_scalars_and_lists_of_one_are_broadcast() -> None:
    assert decoded({"u": 7, "i": 11, "v": "v1"}).columns.n == 1
    assert decoded({"u": [7], "i": [11], "v": ["v1"], "c": None}).columns.n == 1
    columns = decoded({"u": [7], "i": [11, 12], "v": ["v1"], "c": [3]}).columns
    assert (columns.n, columns.versions, len(columns.version_index)) == (2, ("v1",), 1)
    assert decoded({"u": [7], "i": [], "v": "v1"}).columns.n == 0


def test_versions_keep_their_order_of_appearance() -> None:
    columns = decoded({"u": 7, "i": 11, "v": ["b", "a", "b", "c"]}).columns
    assert columns.versions == ("b", "a", "c")
    assert columns.version_index.tolist() == [0, 1, 0, 2]


def test_parts_are_answered_in_the_fixed_order() -> None:
    request = decoded(GOOD | {"parts": ["user_category", "user", "user"]})
    assert request.parts == ("user", "user_category")


def test_more_rows_than_allowed() -> None:
    assert decoded(GOOD, max_rows=2).columns.n == 2
    for body in (GOOD | {"i": [1, 2, 3]}, {"quadruples": [ROW] * 3}):
        with pytest.raises(BatchTooLargeError) as caught:
            decoded(body, max_rows=2)
        assert (caught.value.rows, caught.value.max_rows) == (3, 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("uicvw"), inner),
    max_leaves=6,
)


@given(
    value=st.dictionaries(
        st.sampled_from([*"uicvw", "quadruples", "parts", "dtype", "layout", "allow_stale"]),
        json_values,
    )
)
def test_whatever_json_says_is_read_or_told(value: Any) -> None:
    try:
        body = json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return
    try:
        rows = decode_json(body, 10).columns.n
    except RequestError:
        rows = 0
    assert rows <= 10


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1" * 400])
def test_an_endless_age_is_refused(text: str) -> None:
    body = json.dumps(GOOD)[:-1] + f', "allow_stale": {text}}}'
    with pytest.raises(InvalidFieldsError, match="/allow_stale must be a finite number"):
        decode_json(body.encode(), 100)


@pytest.mark.parametrize("form", [GOOD, GOOD | {"i": ["a", "b"]}, {"quadruples": [ROW]}])
def test_an_age_is_read_in_every_form(form: dict[str, Any]) -> None:
    assert decoded(form).allow_stale == 0
    assert decoded(form | {"allow_stale": 30}).allow_stale == 30
    assert decoded(form | {"allow_stale": 0.5}).allow_stale == 0.5


# ---- safetensors


def tensors(**changes: Any) -> dict[str, Any]:
    good = {"u": np.array([7]), "i": np.array([11, 12])}
    return {k: v for k, v in (good | changes).items() if v is not None}


def saved(arrays: dict[str, Any], **metadata: str) -> bytes:
    return safetensors.numpy.save(arrays, metadata)


@pytest.mark.parametrize(
    ("arrays", "metadata", "fields"),
    [
        (tensors(u=None), {"v": "v1"}, ["/u"]),
        (tensors(), {}, ["/v"]),
        (tensors(w=np.array([1])), {"v": "v1"}, ["/w"]),
        (tensors(), {"v": "v1", "format": "np"}, ["/format"]),
        (tensors(v=np.array([1])), {"v": "v1"}, ["/v"]),
        (tensors(), {"v": "v1", "u": "7"}, ["/u"]),
        (tensors(i=np.array([1, 2], dtype=np.int32)), {"v": "v1"}, ["/i"]),
        (tensors(i=np.array([1, 2], dtype=np.float64)), {"v": "v1"}, ["/i"]),
        (tensors(i=np.array([[1, 2]])), {"v": "v1"}, ["/i"]),
        (tensors(i=np.array(5)), {"v": "v1"}, ["/i"]),
        (tensors(u=np.array([1, 2, 3])), {"v": "v1"}, ["/u", "/i"]),
        (tensors(), {"v": "v 1"}, ["/v"]),
        (tensors(), {"v": "[1, 2]"}, ["/v/0"]),
        (tensors(), {"v": "[v1"}, ["/v"]),
        (tensors(), {"v": "v1", "parts": "user"}, ["/parts"]),
        (tensors(), {"v": "v1", "parts": '["shop"]'}, ["/parts/0"]),
        (tensors(), {"v": "v1", "dtype": "F16"}, ["/dtype"]),
        (tensors(), {"v": "v1", "layout": "x"}, ["/layout"]),
        *(
            (tensors(), {"v": "v1", "allow_stale": text}, ["/allow_stale"])
            for text in ("", "-1", "x", "true", '"1"', "[1]", "1e999", "NaN", "Infinity")
        ),
    ],
)
def test_wrong_tensors_are_named(
    arrays: dict[str, Any], metadata: dict[str, str], fields: list[str]
) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        decode_safetensors(saved(arrays, **metadata), 100)
    assert [e.field for e in caught.value.errors] == fields


def test_a_name_of_digits_is_a_name() -> None:
    columns = decode_safetensors(saved(tensors(), v="20211220"), 100).columns
    assert columns.versions == ("20211220",)
    assert columns.categories is None
    assert columns.has_category is None


def test_names_as_an_array() -> None:
    request = decode_safetensors(
        saved(
            tensors(c=np.array([3])),
            v='["b", "a"]',
            parts='["item"]',
            dtype="f16",
            allow_stale="2.5",
        ),
        100,
    )
    assert request.columns.versions == ("b", "a")
    assert request.columns.categories is not None
    assert request.columns.categories.tolist() == [3]
    assert request.columns.has_category is not None
    assert request.columns.has_category.all()
    assert (request.parts, request.dtype, request.layout) == (("item",), "f16", "rows")
    assert request.allow_stale == 2.5


def test_too_many_rows_in_tensors() -> None:
    with pytest.raises(BatchTooLargeError):
        decode_safetensors(saved(tensors(), v="v1"), 1)


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_told(data: bytes) -> None:
    for decode in (decode_safetensors, decode_json):
        with pytest.raises(GkcError):
            decode(data, 10)
