from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keep.errors import LogNotFoundError, LogSchemaError
from keep.log import INFO_FILE, SCHEMA, Log, day_file, open_log
from tests.keep.logs import DAYS, INFO, SCENES, columns, write_tiny_log


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return write_tiny_log(tmp_path / "log")


def _rewrite(log: Log, day: int, column: str, values: Any) -> None:
    """Put another column into a day's file, around the writer."""
    file = day_file(log.path, day)
    table = pq.read_table(file, partitioning=None)
    index = table.column_names.index(column)
    pq.write_table(table.set_column(index, column, values), file)


def _edit_info(log: Log, **changes: object) -> None:
    file = log.path / INFO_FILE
    info = json.loads(file.read_text())
    file.write_text(json.dumps({**info, **changes}))


def test_a_day_comes_back_as_it_was_written(log: Log) -> None:
    written = columns(20, seed=2)
    day = log.day(2)
    assert len(day) == 20
    for name in ("user", "item", "shop", "category", "time"):
        np.testing.assert_array_equal(getattr(day, name), written[name])
        assert getattr(day, name).dtype == np.int64
    for name in ("click", "cart", "conversion"):
        np.testing.assert_array_equal(getattr(day, name), written[name])
        assert getattr(day, name).dtype == np.bool_
    np.testing.assert_array_equal(day.sub_domain, written["scene"] == SCENES.index("ads"))


def test_days_are_read_in_order_and_gaps_passed_over(log: Log) -> None:
    assert log.info.days == DAYS
    read = [day.time.tolist() for day in log.days(2, 9)]
    assert read == [log.day(2).time.tolist(), log.day(4).time.tolist()]
    assert list(log.days(3, 3)) == []


def test_the_description_counts_what_is_there(log: Log) -> None:
    whole = [columns(20, seed=day) for day in DAYS]
    assert log.info.rows == 60
    assert log.info.clicks == sum(int(day["click"].sum()) for day in whole)
    assert log.info.carts == sum(int(day["cart"].sum()) for day in whole)
    assert log.info.conversions == sum(int(day["conversion"].sum()) for day in whole)
    assert log.info.users == len(np.unique(np.concatenate([day["user"] for day in whole])))
    assert log.info.source == INFO.source


def test_a_directory_without_a_description_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogNotFoundError, match=r"no log\.json; make one with keep fetch"):
        open_log(tmp_path)
    with pytest.raises(LogNotFoundError):
        open_log(tmp_path / "absent")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other/1"}, "gkc-log/1"),
        ({"colour": "red"}, "unknown 'colour'"),
        ({"name": 7}, "'name' must be of type str"),
        ({"days": [1, 2.5]}, "'days' must be of type"),
        ({"test_day": True}, "'test_day' must be of type int"),
        ({"days": [4, 2, 1]}, "not ascending"),
        ({"days": []}, "no day"),
        ({"test_day": 3}, r"name \[3\]"),
        ({"pretrain_until": 2}, r"\[2, 2, 4\] do not ascend"),
        ({"train_days": [4]}, r"\[1, 4, 4\] do not ascend"),
    ],
)
def test_a_wrong_description_is_refused(log: Log, changes: dict[str, object], message: str) -> None:
    _edit_info(log, **changes)
    with pytest.raises(LogSchemaError, match=message) as caught:
        open_log(log.path)
    assert caught.value.file == log.path / INFO_FILE


def test_a_description_that_is_not_json_is_refused(log: Log) -> None:
    (log.path / INFO_FILE).write_text("{")
    with pytest.raises(LogSchemaError, match="cannot be read"):
        open_log(log.path)


def test_a_missing_description_field_is_named(log: Log) -> None:
    file = log.path / INFO_FILE
    info = json.loads(file.read_text())
    del info["source"]
    file.write_text(json.dumps(info))
    with pytest.raises(LogSchemaError, match="has no 'source'"):
        open_log(log.path)


def test_a_missing_day_file_is_named(log: Log) -> None:
    day_file(log.path, 2).unlink()
    with pytest.raises(LogSchemaError, match=r"day=0002\.parquet"):
        open_log(log.path)


def test_a_column_of_another_type_is_named(log: Log) -> None:
    _rewrite(log, 2, "user", pa.array([1.5] * 20))
    with pytest.raises(LogSchemaError, match="column 'user': has type double, not int64"):
        open_log(log.path)


def test_a_missing_column_is_named(log: Log) -> None:
    file = day_file(log.path, 1)
    pq.write_table(pq.read_table(file, partitioning=None).drop_columns(["shop"]), file)
    with pytest.raises(LogSchemaError, match="column 'shop': is missing"):
        open_log(log.path)


@pytest.mark.parametrize(
    ("column", "values", "row", "message"),
    [
        ("item", pa.array([1] * 7 + [None] + [1] * 12, pa.int64()), 7, "is null"),
        ("time", pa.array([1] * 5 + [-1] + [1] * 14, pa.int64()), 5, "is negative"),
        ("time", pa.array([1] * 6 + [10**12] + [1] * 13, pa.int64()), 6, "not milliseconds"),
        ("day", pa.array([2] * 3 + [3] + [2] * 16, pa.int32()), 3, "is not 2"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(
    log: Log, column: str, values: object, row: int, message: str
) -> None:
    _rewrite(log, 2, column, values)
    with pytest.raises(LogSchemaError, match=message) as caught:
        log.day(2)
    assert (caught.value.column, caught.value.row) == (column, row)


@pytest.mark.parametrize("column", ["cart", "conversion"])
def test_a_cart_or_conversion_without_a_click_is_named_with_its_row(log: Log, column: str) -> None:
    click = log.day(2).click
    wrong = np.flatnonzero(~click)[1]
    values = log.table(2).column(column).to_numpy().copy()
    values[wrong] = True
    _rewrite(log, 2, column, pa.array(values))
    with pytest.raises(LogSchemaError, match="although click is false") as caught:
        log.day(2)
    assert (caught.value.column, caught.value.row) == (column, wrong)


def test_a_day_that_is_not_there_is_named(log: Log) -> None:
    with pytest.raises(LogSchemaError, match="no day 3"):
        log.day(3)


def test_the_stored_table_has_the_schema(log: Log) -> None:
    table = log.table(1)
    assert table.schema.names == SCHEMA.names
    assert table.schema.types == SCHEMA.types
    assert set(table.column("scene").to_pylist()) <= set(SCENES)


def test_logs_are_read_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import keep.log, keep.log_summary, keep.cli.fetch, keep.cli.import_, keep.cli.simulate"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_description_that_is_nested_without_end_or_a_pipe_is_refused(log: Log) -> None:
    file = log.path / "log.json"
    file.write_text("[" * 200_000)
    with pytest.raises(LogSchemaError, match="cannot be read"):
        open_log(log.path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(LogSchemaError, match="is no file"):
        open_log(log.path)
