from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporter import tables
from exporter.bundle import load_bundle
from exporter.errors import FeatureTableError
from exporter.features import Feature
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
    for first, batch in table.batches(["user_id"]):
        assert first == len(seen)
        seen += table.ids(batch, "user_id", first).tolist()
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
    table.require_ids("user_id")
    found = [table.ids(b, "user_id", f).tolist() for f, b in table.batches(["user_id"])]
    assert found == [[1], [2]]
    with pytest.raises(FeatureTableError, match=r"users/part-1\.parquet, column 'x': is a list in"):
        table.is_list("x")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["user_id", "user_id"])
    with pytest.raises(FeatureTableError, match="the file has it twice"):
        users(tmp_path / "b", twice).require_ids("user_id")


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
    assert table.is_list("x")
    ((first, batch),) = table.batches(["x"])
    values, lengths = table.lists(batch, Feature("x", np.dtype(np.int32), is_list=True), first)
    assert values.dtype == np.int32
    assert values.tolist() == [1, 2, 3]
    assert lengths.tolist() == [2, 0, 0, 1]


def test_fixed_size_lists_with_nulls_are_read(tmp_path: Path) -> None:
    lists = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2))
    table = users(tmp_path / "b", pa.table({"user_id": range(3), "x": lists}))
    ((first, batch),) = table.batches(["x"])
    values, lengths = table.lists(batch, Feature("x", np.dtype(np.int64), is_list=True), first)
    assert (values.tolist(), lengths.tolist()) == ([1, 2, 3, 4], [2, 0, 2])


def test_dictionary_columns_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    column = pa.array([7, 5, 7]).dictionary_encode()
    table = users(tmp_path / "b", pa.table({"user_id": range(3), "x": column}))
    assert not table.is_list("x")
    ((first, batch),) = table.batches(["x"])
    feature = Feature("x", np.dtype(np.float32), is_list=False)
    assert table.numbers(batch, feature, first, null_is_zero=False).tolist() == [7.0, 5.0, 7.0]


def test_a_null_is_zero_only_where_it_may_be(tmp_path: Path) -> None:
    table = users(tmp_path / "b", pa.table({"user_id": range(2), "x": [None, 4]}))
    ((first, batch),) = table.batches(["x"])
    feature = Feature("x", np.dtype(np.int64), is_list=False)
    assert table.numbers(batch, feature, first, null_is_zero=True).tolist() == [0, 4]
    with pytest.raises(FeatureTableError, match=r"column 'x', row 0 .*: is null"):
        table.numbers(batch, feature, first, null_is_zero=False)


def test_a_table_may_be_one_file(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    write_table(built.path / "users.parquet", ids(0, 3), folder=False)
    assert FeatureTable(load_bundle(built.path), "users").locate(2) == ("users.parquet", 2)


NO_LISTS = pa.table({"user_id": [3, 4], "x": pa.array([None, None], pa.null())})


def test_a_part_of_nothing_but_null_fits_lists_and_numbers(tmp_path: Path) -> None:
    lists = pa.table({"user_id": [1], "x": [[7, 8]]})
    table = users(tmp_path / "b", lists, NO_LISTS)
    assert table.is_list("x")
    feature = Feature("x", np.dtype(np.int64), is_list=True)
    read = [table.lists(batch, feature, first) for first, batch in table.batches(["x"])]
    assert [values.tolist() for values, _ in read] == [[7, 8], []]
    assert [lengths.tolist() for _, lengths in read] == [[2], [0, 0]]
    numbers = users(tmp_path / "c", pa.table({"user_id": [1], "x": [7]}), NO_LISTS)
    assert numbers.is_list("x") is False
    assert users(tmp_path / "d", NO_LISTS).is_list("x") is None


def test_the_types_of_parts_without_rows_mean_nothing(tmp_path: Path) -> None:
    empty = pa.table({"user_id": pa.array([], pa.float64()), "x": pa.array([], pa.string())})
    table = users(tmp_path / "b", empty, pa.table({"user_id": [1], "x": [[7]]}))
    table.require_ids("user_id")
    assert table.is_list("x")
    assert [first for first, _ in table.batches(["x"])] == [0]
    alone = users(tmp_path / "c", empty)
    alone.require_ids("user_id")
    assert alone.is_list("x") is None
    assert list(alone.batches(["user_id", "x"])) == []
    with pytest.raises(FeatureTableError, match="no such column; its columns: user_id, x"):
        alone.is_list("y")


def test_views_and_extensions_are_read_as_what_they_hold(tmp_path: Path) -> None:
    pairs = pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int64(), [2]), pairs)
    view = pa.array([[1, 2], [3, 4]], pa.list_view(pa.int64()))
    table = users(tmp_path / "b", pa.table({"user_id": range(2), "x": tensor, "y": view}))
    ((first, batch),) = table.batches(["x", "y"])
    for name in ("x", "y"):
        assert table.is_list(name)
        values, lengths = table.lists(batch, Feature(name, np.dtype(np.int64), is_list=True), first)
        assert (values.tolist(), lengths.tolist()) == ([1, 2, 3, 4], [2, 2])
