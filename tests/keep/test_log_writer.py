from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from keep.errors import LogPathTakenError, LogSchemaError
from keep.log import LogInfo, open_log
from keep.log_writer import LogWriter
from tests.keep.logs import DAYS, INFO, SCENES, columns, write_tiny_log


def _write_until_full(path: Path) -> None:
    with LogWriter(path, INFO) as writer:
        writer.write(1, columns(5), SCENES)
        raise OSError("no space left on device")


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space left"):
        _write_until_full(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_leaves_the_log_that_was_there(tmp_path: Path) -> None:
    before = write_tiny_log(tmp_path / "log").info
    with pytest.raises(OSError, match="no space left"):
        _write_until_full(tmp_path / "log")
    assert open_log(tmp_path / "log").info == before
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_log_of_the_same_name_is_replaced_whole(tmp_path: Path) -> None:
    write_tiny_log(tmp_path / "log", rows=20)
    log = write_tiny_log(tmp_path / "log", rows=7)
    assert log.info.rows == 21
    assert sorted(path.name for path in (log.path / "days").iterdir()) == [
        f"day={day:04d}.parquet" for day in DAYS
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert write_tiny_log(tmp_path / "log").info.rows == 60


def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "thesis.tex").write_text("years of work")
    with pytest.raises(LogPathTakenError, match="a directory with other files"):
        LogWriter(tmp_path / "log", INFO)
    (tmp_path / "file").write_text("")
    with pytest.raises(LogPathTakenError, match="a file"):
        LogWriter(tmp_path / "file", INFO)
    assert (tmp_path / "log" / "thesis.tex").read_text() == "years of work"


def test_a_log_of_another_name_is_left_alone(tmp_path: Path) -> None:
    write_tiny_log(tmp_path / "log")
    with pytest.raises(LogPathTakenError, match="a log named 'tiny'"):
        LogWriter(tmp_path / "log", dataclasses.replace(INFO, name="other"))


def test_the_checksum_depends_on_values_not_on_batches_or_scene_codes(tmp_path: Path) -> None:
    one = write_tiny_log(tmp_path / "one").info
    with LogWriter(tmp_path / "two", INFO) as writer:
        for day in DAYS:
            whole = columns(20, seed=day)
            whole["scene"] = 1 - whole["scene"]
            for part in (slice(0, 3), slice(3, 20)):
                batch = {name: column[part] for name, column in whole.items()}
                writer.write(day, batch, SCENES[::-1])
    assert open_log(tmp_path / "two").info == one


def test_the_checksum_changes_with_one_value(tmp_path: Path) -> None:
    one = write_tiny_log(tmp_path / "one").info
    with LogWriter(tmp_path / "two", INFO) as writer:
        for day in DAYS:
            whole = columns(20, seed=day)
            whole["item"][-1] += day == 4
            writer.write(day, whole, SCENES)
    assert open_log(tmp_path / "two").info.checksum != one.checksum


def test_days_ascend(tmp_path: Path) -> None:
    def write_backwards() -> None:
        with LogWriter(tmp_path / "log", INFO) as writer:
            writer.write(2, columns(5), SCENES)
            writer.write(1, columns(5), SCENES)

    with pytest.raises(ValueError, match="day 1 comes after day 2"):
        write_backwards()


def test_rows_are_checked_before_they_are_written(tmp_path: Path) -> None:
    wrong = columns(5)
    wrong["click"] = np.zeros(5, dtype=np.bool_)
    wrong["cart"] = np.ones(5, dtype=np.bool_)
    with (
        pytest.raises(LogSchemaError, match="column 'cart', row 0"),
        LogWriter(tmp_path / "log", INFO) as writer,
    ):
        writer.write(1, wrong, SCENES)
    assert not (tmp_path / "log").exists()


def test_a_log_needs_its_test_day_and_at_least_a_row(tmp_path: Path) -> None:
    with (
        pytest.raises(LogSchemaError, match=r"name \[2, 4\]"),
        LogWriter(tmp_path / "log", INFO) as writer,
    ):
        writer.write(1, columns(5), SCENES)
    info = LogInfo(**{**vars(INFO), "pretrain_until": 0, "train_days": (), "test_day": 1})
    with pytest.raises(LogSchemaError, match="not one row"), LogWriter(tmp_path / "log", info):
        pass
    assert list(tmp_path.iterdir()) == []


def test_tables_beside_the_days_are_kept(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, pretrain_until=0, train_days=(), test_day=1)
    with LogWriter(tmp_path / "log", info) as writer:
        writer.write(1, columns(5), SCENES)
        writer.write_beside("ids/users.parquet", pa.table({"user": [1], "name": ["a"]}))
    assert (tmp_path / "log" / "ids" / "users.parquet").exists()
