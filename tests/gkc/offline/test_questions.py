"""Columns of a table as questions, and what is refused about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gkc.errors import TableFileError
from gkc.offline.questions import RowQuestions
from gkc.strings import StringIds


def batch(**columns: Any) -> pa.RecordBatch:
    given = {"user_id": [7, 8], "item_id": [11, 12]} | columns
    return pa.RecordBatch.from_pydict({k: v for k, v in given.items() if v is not None})


def questions(
    rows: pa.RecordBatch, version: str | None = "v1", column: str | None = None
) -> RowQuestions:
    return RowQuestions("a.parquet", rows.schema, version, column)


def refusal(rows: pa.RecordBatch, first: int = 0, **options: Any) -> str:
    with pytest.raises(TableFileError) as refused:
        questions(rows, **options).read(rows, first)
    return str(refused.value)


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64()]
)
def test_ids_of_any_integer_type(kind: pa.DataType) -> None:
    rows = batch(user_id=pa.array([7, 8], kind), item_id=pa.array([1, 2], kind))
    columns = questions(rows).read(rows, 0)
    assert isinstance(columns.users, np.ndarray)
    assert columns.users.dtype == np.int64
    assert columns.users.tolist() == [7, 8]
    assert columns.items.tolist() == [1, 2]
    assert (columns.categories, columns.has_category) == (None, None)
    assert (columns.versions, columns.version_index.tolist()) == (("v1",), [0])


def test_ids_in_a_dictionary() -> None:
    rows = batch(user_id=pa.array([7, 7]).dictionary_encode())
    assert questions(rows).read(rows, 0).users.tolist() == [7, 7]


def test_a_null_category_is_none() -> None:
    rows = batch(category_id=pa.array([None, 5], pa.int32()))
    columns = questions(rows).read(rows, 0)
    assert columns.has_category is not None
    assert columns.categories is not None
    assert (columns.has_category.tolist(), columns.categories.tolist()[1]) == ([False, True], 5)
    for nothing in (pa.nulls(2), pa.nulls(2, pa.int64())):
        rows = batch(category_id=nothing)
        assert questions(rows).read(rows, 0).categories is None


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_versions_of_rows(kind: pa.DataType) -> None:
    names = pa.array(["b", "a"], kind)
    for column in (names, names.cast(pa.string()).dictionary_encode()):
        rows = batch(v=column)
        columns = questions(rows, None, "v").read(rows, 0)
        assert (columns.versions, columns.version_index.tolist()) == (("b", "a"), [0, 1])
    rows = batch(v=["b", "b"])
    columns = questions(rows, None, "v").read(rows, 0)
    assert (columns.versions, columns.version_index.tolist()) == (("b",), [0])


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_ids_that_are_strings(kind: pa.DataType) -> None:
    names = pa.array(["nobody", "a", "\N{SNOWMAN}", "a\0"]).cast(kind)
    categories = pa.array(["b", None, "c" * 128, "d"]).cast(kind)
    rows = batch(user_id=names, item_id=names, category_id=categories).slice(1)
    columns = questions(rows).read(rows, 1)
    assert isinstance(columns.users, StringIds)
    assert isinstance(columns.categories, StringIds)
    assert columns.users.tolist() == [b"a", "\N{SNOWMAN}".encode(), b"a\0"]
    assert columns.categories.tolist()[1:] == [b"c" * 128, b"d"]
    assert columns.has_category is not None
    assert columns.has_category.tolist() == [False, True, True]


@pytest.mark.parametrize("name", ["user_id", "item_id", "category_id"])
@pytest.mark.parametrize(
    ("unfit", "what"),
    [
        (b"", "0 bytes, not 1 to 128 of UTF-8"),
        (b"x" * 129, "129 bytes, not 1 to 128 of UTF-8"),
        (b"\xff", "bytes that are not UTF-8"),
        (b"\xc3", "bytes that are not UTF-8"),
    ],
)
def test_strings_that_are_no_ids(unfit: bytes, what: str, name: str) -> None:
    names = pa.array([b"a", b"\xc3\x9f", unfit, b"\x9f"]).view(pa.string())
    said = refusal(batch(**({"user_id": [1, 2, 3], "item_id": [1, 2, 3]} | {name: names[:3]})), 100)
    assert said == (f"a.parquet, column {name!r}, row 102 (counted from 0): is a string of {what}")


def test_what_is_null_in_a_dictionary_is_null() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([None, 5]))
    rows = batch(category_id=column)
    columns = questions(rows).read(rows, 0)
    assert columns.has_category is not None
    assert columns.has_category.tolist() == [False, True]
    assert "column 'user_id', row 0 (counted from 0): is null" in refusal(batch(user_id=column))


def test_columns_that_are_there_already() -> None:
    schema = batch(status=[1, 2]).schema
    with pytest.raises(TableFileError, match=r"a\.parquet, column 'status': .* --prefix"):
        RowQuestions("a.parquet", schema, "v1", None, ["knowledge", "status"])
    RowQuestions("a.parquet", schema, "v1", None, ["k_knowledge", "k_status"])


def test_what_is_null_is_named_by_its_row() -> None:
    said = refusal(batch(user_id=[7, None]), 100)
    assert said.startswith("a.parquet, column 'user_id', row 101 (counted from 0): is null")
    assert "column 'item_id', row 0" in refusal(batch(item_id=pa.nulls(2)))
    assert "column 'v', row 1" in refusal(batch(v=["a", None]), version=None, column="v")
    assert "column 'v', row 0" in refusal(batch(v=pa.nulls(2)), version=None, column="v")


def test_an_id_beyond_int64() -> None:
    said = refusal(batch(user_id=pa.array([7, 2**63], pa.uint64())), 5)
    assert "column 'user_id', row 6" in said
    assert f"{2**63} is beyond int64" in said


def test_columns_that_are_missing() -> None:
    assert "there is no column 'item_id'; its columns: user_id" in refusal(batch(item_id=None))
    assert "there is no column 'v'" in refusal(batch(), version=None, column="v")
    of_a_log = batch().rename_columns(["user", "item_id"])
    assert "'user_id'; is 'user' it? rename it to 'user_id'" in refusal(of_a_log)
    rows = pa.RecordBatch.from_arrays(
        [pa.array([1])] * 3,
        schema=pa.schema([(n, pa.int64()) for n in ("user_id", "item_id", "item_id")]),
    )
    assert "column 'item_id': is there twice" in refusal(rows)


def test_an_index_of_pandas_is_named() -> None:
    rows = batch(user_id=None)
    metadata = {b"pandas": b'{"index_columns": ["user_id"], "columns": []}'}
    assert "reset_index()" in refusal(rows.replace_schema_metadata(metadata))


def test_columns_of_another_type() -> None:
    assert "integers or strings, not binary" in refusal(batch(user_id=[b"a", b"b"]))
    assert "integers or strings, not double" in refusal(batch(category_id=[1.0, 2.0]))
    assert "versions are strings" in refusal(batch(v=[20211220, 1]), version=None, column="v")
