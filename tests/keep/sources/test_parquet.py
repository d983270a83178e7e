from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keep.errors import LogSchemaError
from keep.log import Log, day_file, open_log
from keep.sources.parquet import ParquetOptions, import_parquet
from tests.keep.logs import write_tiny_log

OWN: dict[str, Any] = {
    "user": [1, 2, 3, 4],
    "item": [10, 20, 30, 40],
    "shop": [0, 0, 1, 1],
    "category": [5, 5, -6, -6],
    "day": [1, 3, 2, 1],
    "time": [100, 300, 200, 110],
    "scene": ["home", "ads", "ads", "home"],
    "click": [True, True, False, True],
    "cart": [True, False, False, False],
    "conversion": [False, True, False, False],
}


def _ignore(amount: int) -> None:
    """Take progress and show nothing."""
    assert amount >= 0


def _import(tmp_path: Path, options: ParquetOptions | None = None, **changes: Any) -> Log:
    file = tmp_path / "own.parquet"
    table = {name: column for name, column in {**OWN, **changes}.items() if column is not None}
    pq.write_table(pa.table(table), file)
    import_parquet([file], tmp_path / "log", options or ParquetOptions(), _ignore)
    return open_log(tmp_path / "log")


def test_own_rows_become_a_log(tmp_path: Path) -> None:
    log = _import(tmp_path, ParquetOptions("shop", "from our warehouse", ("ads",)))
    assert (log.info.name, log.info.source) == ("shop", "from our warehouse")
    assert log.info.days == (1, 2, 3)
    assert (log.info.pretrain_until, log.info.train_days, log.info.test_day) == (1, (2,), 3)
    day = log.day(1)
    assert (day.user.tolist(), day.time.tolist()) == ([1, 4], [100, 110])
    assert day.sub_domain.tolist() == [False, False]
    assert log.day(3).sub_domain.tolist() == [True]


def test_all_scenes_are_the_sub_domain_unless_some_are_named(tmp_path: Path) -> None:
    assert _import(tmp_path).info.sub_domain_scenes == ("ads", "home")


def test_a_log_imported_from_another_is_the_same(tmp_path: Path) -> None:
    log = write_tiny_log(tmp_path / "tiny")
    files = [day_file(log.path, day) for day in log.info.days]
    import_parquet(files, tmp_path / "log", ParquetOptions(), _ignore)
    assert open_log(tmp_path / "log").info.checksum == log.info.checksum


@pytest.mark.parametrize(
    "changes",
    [
        {"user": pa.array([1, 2, 3, 4], pa.uint16())},
        {"day": pa.array([1, 3, 2, 1], pa.int8())},
        {"scene": pa.array(OWN["scene"]).dictionary_encode()},
        {"scene": pa.array(OWN["scene"], pa.large_string())},
        {"click": pa.array([1, 1, 0, 1], pa.uint8())},
        {"click": pa.array([1.0, 1.0, 0.0, 1.0])},
        {"time": pa.array([datetime.fromtimestamp(t, UTC) for t in OWN["time"]])},
        {"colour": ["red"] * 4},
    ],
)
def test_other_types_are_read_as_the_schema_says(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "plain").mkdir()
    plain = _import(tmp_path / "plain").info.checksum
    assert _import(tmp_path, **changes).info.checksum == plain


@pytest.mark.parametrize(
    ("changes", "column", "row", "message"),
    [
        ({"shop": None}, "shop", None, "is missing"),
        ({"item": ["a", "b", "c", "d"]}, "item", None, "has type string, not int64"),
        ({"user": [1.0, 2.0, 3.0, 4.0]}, "user", None, "has type double, not int64"),
        ({"user": pa.array([1, 2, 3, 2**63], pa.uint64())}, "user", 3, "does not fit int64"),
        ({"user": pa.array([1, 2, None, 4])}, "user", 2, "is null"),
        ({"scene": pa.array(["a", None, "b", "c"])}, "scene", 1, "is null"),
        ({"click": pa.array([1, 1, 2, 1])}, "click", 2, "is neither 0 nor 1"),
        ({"click": ["y", "y", "n", "y"]}, "click", None, "has type string, not bool"),
        ({"cart": [True, False, True, False]}, "cart", 2, "although click is false"),
        ({"conversion": [False, True, True, False]}, "conversion", 2, "although click is false"),
        ({"day": [1, 3, -2, 1]}, "day", 2, "is negative"),
        ({"day": [1, 3, 2, 2**31]}, "day", 3, "does not fit int32"),
        ({"time": [1, -1, 2, 3]}, "time", 1, "is negative"),
    ],
)
def test_a_fault_is_named_with_column_and_row(
    tmp_path: Path, changes: dict[str, Any], column: str, row: int | None, message: str
) -> None:
    with pytest.raises(LogSchemaError, match=message) as caught:
        _import(tmp_path, **changes)
    assert (caught.value.column, caught.value.row) == (column, row)
    assert caught.value.file == tmp_path / "own.parquet"
    assert [path.name for path in tmp_path.iterdir()] == ["own.parquet"]


def test_the_row_counts_through_the_whole_file(tmp_path: Path) -> None:
    count = 600_000
    click = np.ones(count, dtype=np.bool_)
    click[550_000] = False
    columns: dict[str, Any] = {
        name: np.ones(count, dtype=np.int64) for name in OWN if name != "scene"
    }
    columns |= {"scene": np.full(count, "ads"), "cart": np.ones(count, dtype=np.bool_)}
    columns["click"] = click
    with pytest.raises(LogSchemaError, match="column 'cart', row 550000"):
        _import(tmp_path, **columns)


def test_options_that_do_not_fit_the_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogSchemaError, match="no row is of the test day 9"):
        _import(tmp_path, ParquetOptions(test_day=9))
    with pytest.raises(LogSchemaError, match="no row has the scene 'video'"):
        _import(tmp_path, ParquetOptions(sub_domain_scenes=("video",)))


def test_an_earlier_test_day_leaves_later_days_out_of_the_splits(tmp_path: Path) -> None:
    info = _import(tmp_path, ParquetOptions(test_day=2)).info
    assert (info.days, info.pretrain_until, info.train_days) == ((1, 2, 3), 1, ())


def test_what_is_no_parquet_or_has_no_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(LogSchemaError, match="cannot be read as Parquet"):
        import_parquet([tmp_path / "text.parquet"], tmp_path / "log", ParquetOptions(), _ignore)
    empty = pa.table({name: pa.array(column)[:0] for name, column in OWN.items()})
    pq.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(LogSchemaError, match="not one row"):
        import_parquet([tmp_path / "empty.parquet"], tmp_path / "log", ParquetOptions(), _ignore)


def test_one_wrong_day_does_not_become_the_test_day(tmp_path: Path) -> None:
    rows = 800
    many = {name: column * (rows // 4) for name, column in OWN.items()}
    many["day"][-1] = 20_991_231
    with pytest.raises(LogSchemaError, match="name the test day: --test-day 3, or --test-day 2099"):
        _import(tmp_path, **many)
    assert _import(tmp_path, ParquetOptions(test_day=3), **many).info.test_day == 3


def test_numbers_and_scenes_in_dictionaries_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    plain = _import(tmp_path).info.checksum
    coded = {n: pa.array(OWN[n]).dictionary_encode() for n in ("item", "day", "scene")}
    assert _import(tmp_path, **coded).info.checksum == plain
    view = pa.array(OWN["scene"], pa.string_view())
    assert _import(tmp_path, scene=view).info.checksum == plain
