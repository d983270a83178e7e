from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporter import tables
from exporter.bundle import load_bundle
from exporter.errors import FeatureTableError
from exporter.features import TEXT, Feature
from exporter.tables import FeatureTable
from tests.exporter.bundles import Recipe, build, write_table


def users(path: Path, *files: pa.Table) -> FeatureTable:
    """A users table of these files."""
    built = build(path, Recipe(folders=True))
    for old in (built.path / "users").glob("*.parquet"):
        old.unlink()
    for k, table in enumerate(files):
        pq.write_table(table, built.path / "users" / f"part-{k}.parquet", row_group_size=7)
    return FeatureTable(load_bundle(built.path), "users")


def described(table: FeatureTable, column: str = "x") -> str | None:
    """What a column holds, in words."""
    content = table.content(column)
    return content.described if content else None


def ids(start: int, stop: int) -> pa.Table:
    return pa.table({"user_id": np.arange(start, stop)})


@pytest.mark.parametrize("batch_rows", [256, 10_000])
def test_batches_follow_each_other_through_all_files(
    batch_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BATCH_ROWS", batch_rows)
    table = users(tmp_path / "b", ids(0, 700), ids(700, 700), ids(700, 1000))
    assert table.rows == 1000
    seen: list[int] = []
    for batch in table.batches(["user_id"]):
        assert batch.first == len(seen)
        seen += batch.ids("user_id").tolist()
    assert seen == list(range(1000))


def test_a_row_is_located_in_its_file(tmp_path: Path) -> None:
    table = users(tmp_path / "b", ids(0, 10), ids(10, 10), ids(10, 15))
    assert table.locate(0) == ("users/part-0.parquet", 0)
    assert table.locate(9) == ("users/part-0.parquet", 9)
    assert table.locate(10) == ("users/part-2.parquet", 0)
    assert table.locate(14) == ("users/part-2.parquet", 4)


def test_files_may_differ_in_integer_types_but_not_in_kind(tmp_path: Path) -> None:
    narrow = pa.table({"user_id": np.array([1], np.int16), "x": [1]})
    wide = pa.table({"user_id": np.array([2], np.uint64), "x": [[1]]})
    table = users(tmp_path / "b", narrow, wide)
    table.id_type("user_id")
    found = [batch.ids("user_id").tolist() for batch in table.batches(["user_id"])]
    assert found == [[1], [2]]
    problem = (
        r"users/part-1\.parquet, column 'x': holds lists of numbers, but users/part-0\.parquet "
    )
    with pytest.raises(FeatureTableError, match=problem + "numbers"):
        table.content("x")


def test_ids_are_integers_or_strings_but_not_both(tmp_path: Path) -> None:
    texts = pa.table({"user_id": pa.array(["a", "b"], pa.large_string()), "x": [1, 2]})
    coded = pa.table({"user_id": pa.array(["c", "é"]).dictionary_encode(), "x": [1, 2]})
    nothing = pa.table({"user_id": pa.nulls(1), "x": [1]})
    table = users(tmp_path / "a", nothing, texts, coded)
    assert table.id_type("user_id") == "string"
    *_, first, second = table.batches(["user_id"])
    assert first.names("user_id").to_pylist() == ["a", "b"]
    assert second.names("user_id").to_pylist() == ["c", "é"]
    assert users(tmp_path / "b", ids(0, 3)).id_type("user_id") == "int64"
    assert users(tmp_path / "c", nothing).id_type("user_id") is None
    with pytest.raises(
        FeatureTableError,
        match=r"part-1\.parquet, column 'user_id': ids are string here, but int64 in users/part-0",
    ):
        users(tmp_path / "d", ids(0, 3), texts).id_type("user_id")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, "is null"),
        (b"", "is a string of 0 bytes; an id has 1 to 128"),
        ("é".encode() * 65, "is a string of 130 bytes; an id has 1 to 128"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_a_string_that_is_no_id_is_named(name: bytes | None, problem: str, tmp_path: Path) -> None:
    names = pa.array([b"a", name], pa.binary())
    unchecked = pa.Array.from_buffers(pa.string(), 2, names.buffers())
    table = users(tmp_path / "a", pa.table({"user_id": unchecked}))
    (batch,) = table.batches(["user_id"])
    with pytest.raises(FeatureTableError, match=rf"row 1 \(counted from 0\): {problem}"):
        batch.names("user_id")
    if name is None:
        assert batch.names("user_id", may_be_null=True).to_pylist() == ["a", None]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["user_id", "user_id"])
    with pytest.raises(FeatureTableError, match="the file has it twice"):
        users(tmp_path / "b", twice).id_type("user_id")


@pytest.mark.parametrize(
    "lists",
    [
        pa.array([[1, 2], None, [], [3]], pa.list_(pa.int64())),
        pa.array([[1, 2], None, [], [3]], pa.large_list(pa.int32())),
        pa.array([[1, 2], None, [], [3]], pa.list_(pa.float32())),
        pa.array([[1, 2], None, [], [3]], pa.list_(pa.dictionary(pa.int8(), pa.int64()))),
    ],
)
def test_lists_of_any_type_become_elements_and_lengths(lists: pa.Array, tmp_path: Path) -> None:
    table = users(tmp_path / "b", pa.table({"user_id": range(4), "x": lists}))
    assert described(table) == "lists of numbers"
    (batch,) = table.batches(["x"])
    values, lengths = batch.lists(Feature("x", np.dtype(np.int32), is_list=True))
    assert values.dtype == np.int32
    assert values.tolist() == [1, 2, 3]
    assert lengths.tolist() == [2, 0, 0, 1]


def test_fixed_size_lists_with_nulls_are_read(tmp_path: Path) -> None:
    lists = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2))
    table = users(tmp_path / "b", pa.table({"user_id": range(3), "x": lists}))
    (batch,) = table.batches(["x"])
    values, lengths = batch.lists(Feature("x", np.dtype(np.int64), is_list=True))
    assert (values.tolist(), lengths.tolist()) == ([1, 2, 3, 4], [2, 0, 2])


def test_dictionary_columns_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    column = pa.array([7, 5, 7]).dictionary_encode()
    table = users(tmp_path / "b", pa.table({"user_id": range(3), "x": column}))
    assert described(table) == "numbers"
    (batch,) = table.batches(["x"])
    feature = Feature("x", np.dtype(np.float32), is_list=False)
    assert batch.numbers(feature, null_is_zero=False).tolist() == [7.0, 5.0, 7.0]


def test_a_null_is_zero_only_where_it_may_be(tmp_path: Path) -> None:
    table = users(tmp_path / "b", pa.table({"user_id": range(2), "x": [None, 4]}))
    (batch,) = table.batches(["x"])
    feature = Feature("x", np.dtype(np.int64), is_list=False)
    assert batch.numbers(feature, null_is_zero=True).tolist() == [0, 4]
    with pytest.raises(FeatureTableError, match=r"column 'x', row 0 .*: is null"):
        batch.numbers(feature, null_is_zero=False)


def test_a_table_may_be_one_file(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    write_table(built.path / "users.parquet", ids(0, 3), folder=False)
    assert FeatureTable(load_bundle(built.path), "users").locate(2) == ("users.parquet", 2)


NO_LISTS = pa.table({"user_id": [3, 4], "x": pa.array([None, None], pa.null())})


def test_a_part_of_nothing_but_null_fits_lists_and_numbers(tmp_path: Path) -> None:
    lists = pa.table({"user_id": [1], "x": [[7, 8]]})
    table = users(tmp_path / "b", lists, NO_LISTS)
    assert described(table) == "lists of numbers"
    feature = Feature("x", np.dtype(np.int64), is_list=True)
    read = [batch.lists(feature) for batch in table.batches(["x"])]
    assert [values.tolist() for values, _ in read] == [[7, 8], []]
    assert [lengths.tolist() for _, lengths in read] == [[2], [0, 0]]
    numbers = users(tmp_path / "c", pa.table({"user_id": [1], "x": [7]}), NO_LISTS)
    assert described(numbers) == "numbers"
    texts = users(tmp_path / "d", pa.table({"user_id": [1], "x": ["7"]}), NO_LISTS)
    assert described(texts) == "strings"
    assert users(tmp_path / "e", NO_LISTS).content("x") is None


def test_the_types_of_parts_without_rows_mean_nothing(tmp_path: Path) -> None:
    empty = pa.table({"user_id": pa.array([], pa.float64()), "x": pa.array([], pa.string())})
    table = users(tmp_path / "b", empty, pa.table({"user_id": [1], "x": [[7]]}))
    table.id_type("user_id")
    assert described(table) == "lists of numbers"
    assert [batch.first for batch in table.batches(["x"])] == [0]
    alone = users(tmp_path / "c", empty)
    alone.id_type("user_id")
    assert alone.content("x") is None
    assert list(alone.batches(["user_id", "x"])) == []
    with pytest.raises(FeatureTableError, match="no such column; its columns: user_id, x"):
        alone.content("y")


def test_views_and_extensions_are_read_as_what_they_hold(tmp_path: Path) -> None:
    pairs = pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int64(), [2]), pairs)
    view = pa.array([[1, 2], [3, 4]], pa.list_view(pa.int64()))
    table = users(tmp_path / "b", pa.table({"user_id": range(2), "x": tensor, "y": view}))
    (batch,) = table.batches(["x", "y"])
    for name in ("x", "y"):
        assert described(table, name) == "lists of numbers"
        values, lengths = batch.lists(Feature(name, np.dtype(np.int64), is_list=True))
        assert (values.tolist(), lengths.tolist()) == ([1, 2, 3, 4], [2, 2])


TEXT_FEATURE = Feature("x", TEXT, is_list=False)
TEXT_LISTS = Feature("x", TEXT, is_list=True)
TEXT_TYPES = [
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.large_string())),
]


@pytest.mark.parametrize("held", TEXT_TYPES)
def test_strings_of_any_type_are_read_as_themselves(held: pa.DataType, tmp_path: Path) -> None:
    texts = ["b", "", "Zürich", "b", "a\0b"]
    table = users(tmp_path / "b", pa.table({"user_id": range(5), "x": pa.array(texts, held)}))
    assert described(table) == "strings"
    (batch,) = table.batches(["x"])
    read = batch.texts(TEXT_FEATURE, null_is_empty=False)
    assert (read.type, read.to_pylist()) == (pa.large_string(), texts)


@pytest.mark.parametrize("held", TEXT_TYPES)
def test_lists_of_strings_of_any_type_become_elements_and_lengths(
    held: pa.DataType, tmp_path: Path
) -> None:
    lists = pa.array([["b", "東京"], None, [], ["b"]], pa.list_(held))
    table = users(tmp_path / "b", pa.table({"user_id": range(4), "x": lists}))
    assert described(table) == "lists of strings"
    (batch,) = table.batches(["x"])
    elements, lengths = batch.text_lists(TEXT_LISTS)
    assert (elements.to_pylist(), lengths.tolist()) == (["b", "東京", "b"], [2, 0, 0, 1])


def test_parts_may_lay_strings_out_differently_and_hold_nothing(tmp_path: Path) -> None:
    lists = [
        pa.array([[]], pa.list_(pa.null())),
        pa.array([["a"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        pa.array([None], pa.null()),
        pa.array([["b", "c"]], pa.large_list(pa.large_string())),
    ]
    parts = [pa.table({"user_id": [k], "x": part}) for k, part in enumerate(lists)]
    table = users(tmp_path / "b", *parts)
    assert described(table) == "lists of strings"
    read = [batch.text_lists(TEXT_LISTS)[0].to_pylist() for batch in table.batches(["x"])]
    assert read == [[], ["a"], [], ["b", "c"]]


def test_strings_in_one_part_and_numbers_in_another_are_refused(tmp_path: Path) -> None:
    parts = [pa.table({"user_id": [k], "x": [x]}) for k, x in enumerate(["7", 7])]
    problem = r"part-1\.parquet, column 'x': holds numbers, but users/part-0\.parquet strings"
    with pytest.raises(FeatureTableError, match=problem):
        users(tmp_path / "b", *parts).content("x")


def test_a_null_is_the_empty_string_only_where_it_may_be(tmp_path: Path) -> None:
    for name, nulls in (("b", [None, "4"]), ("c", [None, None])):
        table = users(tmp_path / name, pa.table({"user_id": range(2), "x": nulls}))
        (batch,) = table.batches(["x"])
        texts = batch.texts(TEXT_FEATURE, null_is_empty=True)
        assert texts.to_pylist() == [text or "" for text in nulls]
        with pytest.raises(FeatureTableError, match=r"column 'x', row 0 .*: is null"):
            batch.texts(TEXT_FEATURE, null_is_empty=False)


def test_strings_that_are_not_utf_8_are_named_by_their_row(tmp_path: Path) -> None:
    texts = pa.array([b"ok", b"Z\xfcrich"]).view(pa.string())
    lists = pa.ListArray.from_arrays([0, 0, 2], texts)
    table = users(tmp_path / "b", pa.table({"user_id": range(2), "x": texts, "y": lists}))
    (batch,) = table.batches(["x", "y"])
    with pytest.raises(FeatureTableError, match=r"column 'x', row 1 .*: is not UTF-8"):
        batch.texts(TEXT_FEATURE, null_is_empty=False)
    with pytest.raises(
        FeatureTableError, match=r"column 'y', row 1 .*: an element of the list is "
    ):
        batch.text_lists(Feature("y", TEXT, is_list=True))
