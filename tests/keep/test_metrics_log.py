"""Metrics beside a checkpoint: read back as written, with the same numbers for TensorBoard."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from keep.checkpoint import CheckpointError
from keep.metrics import Metrics
from keep.metrics_log import DayMetrics, read_metrics, write_metrics

GOOD = Metrics(0.61, 0.62, 0.5, 1.01, 400, 0.25, 30)
NO_USER = Metrics(math.nan, 0.5, 0.7, math.nan, 9, 0.0, 0)
LINES = [
    DayMetrics(2, "teacher", "click", GOOD),
    DayMetrics(2, "category", "click", NO_USER),
    DayMetrics(3, "teacher", "click", GOOD),
    DayMetrics(3, "teacher", "cart", GOOD),
]


def events(folder: Path) -> Iterator[Event]:
    """Read event files by their format: length, its checksum, bytes, their checksum."""
    for file in sorted(folder.iterdir()):
        left = file.read_bytes()
        while left:
            (size,) = struct.unpack("<Q", left[:8])
            yield Event.FromString(left[12 : 12 + size])
            left = left[16 + size :]


def curves(folder: Path) -> dict[tuple[str, int], float]:
    """Collect every point, checking that none is there twice."""
    points: dict[tuple[str, int], float] = {}
    for event in events(folder):
        for value in event.summary.value:
            assert (value.tag, event.step) not in points
            points[value.tag, event.step] = value.simple_value
    return points


def test_lines_are_read_back_up_to_the_day_asked_for(tmp_path: Path) -> None:
    write_metrics(tmp_path / "ckpt", LINES)
    found = read_metrics(tmp_path / "ckpt", until=3)
    assert [line.model for line in found] == ["teacher", "category", "teacher", "teacher"]
    assert (found[0], found[2:]) == (LINES[0], LINES[2:])
    assert math.isnan(found[1].metrics.gauc)
    assert found[1].metrics.impressions == 9
    assert [line.day for line in read_metrics(tmp_path / "ckpt", until=2)] == [2, 2]


def test_a_line_is_flat_standard_json(tmp_path: Path) -> None:
    write_metrics(tmp_path, LINES)
    first, second = (tmp_path / "metrics.jsonl").read_text().splitlines()[:2]
    assert json.loads(first) == {
        "day": 2,
        "model": "teacher",
        "task": "click",
        "gauc": 0.61,
        "auc": 0.62,
        "log_loss": 0.5,
        "calibration": 1.01,
        "impressions": 400,
        "positive_rate": 0.25,
        "users": 30,
    }
    assert json.loads(second)["gauc"] is None
    assert "NaN" not in second


def test_writing_again_replaces_all(tmp_path: Path) -> None:
    write_metrics(tmp_path, LINES)
    write_metrics(tmp_path, LINES[:1])
    assert read_metrics(tmp_path, until=9) == LINES[:1]
    assert [run.name for run in (tmp_path / "tensorboard").iterdir()] == ["teacher"]
    assert {step for _, step in curves(tmp_path / "tensorboard" / "teacher")} == {2}


def test_tensorboard_has_a_run_per_model_and_a_curve_per_task_and_metric(tmp_path: Path) -> None:
    write_metrics(tmp_path, LINES)
    names = ("gauc", "auc", "log_loss", "calibration")
    assert curves(tmp_path / "tensorboard" / "teacher") == pytest.approx(
        {
            (f"{line.task}/{name}", line.day): getattr(line.metrics, name)
            for line in LINES
            if line.model == "teacher"
            for name in names
        }
    )
    # What does not exist is no point.
    found = curves(tmp_path / "tensorboard" / "category")
    assert found == pytest.approx({("click/auc", 2): 0.5, ("click/log_loss", 2): 0.7})


def test_an_open_tensorboard_is_told_to_drop_former_points(tmp_path: Path) -> None:
    write_metrics(tmp_path, LINES)
    written = list(events(tmp_path / "tensorboard" / "teacher"))
    starts = [event for event in written if event.HasField("session_log")]
    assert [(event.step, event.session_log.status) for event in starts] == [(0, 1)]


def test_a_checkpoint_without_metrics_has_no_lines(tmp_path: Path) -> None:
    assert read_metrics(tmp_path, until=9) == []


@pytest.mark.parametrize("damage", ["{", '{"day": 2}', '{"day": 2, "model": "t", "task": "c"}'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    write_metrics(tmp_path, LINES)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(damage + "\n")
    with pytest.raises(CheckpointError, match=r"metrics.jsonl, line 5 is damaged"):
        read_metrics(tmp_path, until=9)
