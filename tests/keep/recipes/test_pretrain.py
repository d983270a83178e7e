"""Pretraining day by day: incremental, reproducible, without leaks."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gkc.arrays import F32
from keep.checkpoint import (
    CheckpointError,
    Pretraining,
    holds_checkpoint,
    load_checkpoint,
)
from keep.knowledge import knowledge_of
from keep.log import Day, Log
from keep.metrics_log import read_metrics
from keep.recipes.pretrain import NothingToLearnError, pretrain
from tests.keep.tiny import CONFIG, tiny_log


def knowledge(state: Pretraining, day: Day) -> F32:
    return knowledge_of(state, day)


def assert_equal_states(one: Pretraining, other: Pretraining) -> None:
    weights = other.models.state_dict()
    for name, tensor in one.models.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    assert np.array_equal(one.features.history, other.features.history)
    assert one.day == other.day


def test_going_on_from_a_checkpoint_equals_never_having_stopped(log: Log, tmp_path: Path) -> None:
    once = pretrain(log, tmp_path / "once", config=CONFIG)
    pretrain(log, tmp_path / "parts", until=1, config=CONFIG)
    pretrain(log, tmp_path / "parts", from_checkpoint=tmp_path / "parts", until=2)
    pretrain(log, tmp_path / "moved", from_checkpoint=tmp_path / "parts")
    assert once.day == 3
    assert_equal_states(once, load_checkpoint(tmp_path / "moved"))
    assert load_checkpoint(tmp_path / "parts").day == 2


def test_labels_after_the_checkpoint_s_day_change_nothing(log: Log, tmp_path: Path) -> None:
    other = tiny_log(tmp_path / "flipped", flip_from=4)
    assert not np.array_equal(other.day(4).click, log.day(4).click)
    one = pretrain(log, tmp_path / "one", config=CONFIG)
    two = pretrain(other, tmp_path / "two", config=CONFIG)
    assert_equal_states(one, two)
    assert np.array_equal(knowledge(one, log.day(5)), knowledge(two, other.day(5)))


def test_labels_of_a_training_day_do_change_the_knowledge(log: Log, tmp_path: Path) -> None:
    other = tiny_log(tmp_path / "flipped", flip_from=3)
    one = pretrain(log, tmp_path / "one", config=CONFIG)
    two = pretrain(other, tmp_path / "two", config=CONFIG)
    first, second = knowledge(one, log.day(5)), knowledge(two, log.day(5))
    assert not np.array_equal(first, second)


def test_metrics_of_every_day_model_and_task_stand_beside_the_checkpoint(
    log: Log, tmp_path: Path
) -> None:
    pretrain(log, tmp_path, config=CONFIG)
    lines = read_metrics(tmp_path, until=3)
    models, tasks = ("teacher", "two_tower", "category"), ("click", "conversion", "cart")
    found = [(line.day, line.model, line.task) for line in lines]
    # Of the first day there are none: nothing had been learned.
    assert found == [(day, model, task) for day in (2, 3) for model in models for task in tasks]
    clicks = {day: int(log.day(day).click.sum()) for day in (2, 3)}
    for line in lines:
        assert line.metrics.impressions == (400 if line.task == "click" else clicks[line.day])
    assert {run.name for run in (tmp_path / "tensorboard").iterdir()} == set(models)


def test_metrics_of_a_run_that_was_cut_off_equal_those_of_one_that_was_not(
    log: Log, tmp_path: Path
) -> None:
    pretrain(log, tmp_path / "once", config=CONFIG)
    pretrain(log, tmp_path / "parts", until=2, config=CONFIG)
    once = (tmp_path / "once" / "metrics.jsonl").read_text()
    parts = (tmp_path / "parts" / "metrics.jsonl").read_text()
    # As if killed after the metrics of day 3 were written, before its checkpoint was.
    torn = parts + once.removeprefix(parts).replace("0.", "0.9")
    (tmp_path / "parts" / "metrics.jsonl").write_text(torn)
    pretrain(log, tmp_path / "moved", from_checkpoint=tmp_path / "parts")
    assert (tmp_path / "moved" / "metrics.jsonl").read_text() == once
    pretrain(log, tmp_path / "parts", from_checkpoint=tmp_path / "parts")
    assert (tmp_path / "parts" / "metrics.jsonl").read_text() == once


def test_the_report_has_a_line_per_model(
    log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(log, tmp_path / "ckpt", until=2, config=CONFIG)
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[:4]] == ["day", "teacher", "two_tower", "category"]
    assert "400 impressions" in out[0]
    assert all("click GAUC before 0." in line for line in out[5:8])
    assert out[8].startswith("checkpoint of day 2")


def test_another_checkpoint_is_not_overwritten(log: Log, tmp_path: Path) -> None:
    pretrain(log, tmp_path / "ckpt", until=1, config=CONFIG)
    with pytest.raises(CheckpointError, match="is there already"):
        pretrain(log, tmp_path / "ckpt", config=CONFIG)
    assert load_checkpoint(tmp_path / "ckpt").day == 1


def test_no_day_to_learn_from_is_an_error(log: Log, tmp_path: Path) -> None:
    pretrain(log, tmp_path / "ckpt", until=2, config=CONFIG)
    with pytest.raises(NothingToLearnError, match="no day up to 2 after day 2"):
        pretrain(log, tmp_path / "ckpt", from_checkpoint=tmp_path / "ckpt", until=2)
    with pytest.raises(NothingToLearnError, match=f"^log {log.path}: has no day up to 0"):
        pretrain(log, tmp_path / "new", until=0, config=CONFIG)


@pytest.mark.slow
def test_a_killed_training_leaves_a_checkpoint_to_go_on_with(log: Log, tmp_path: Path) -> None:
    config = tmp_path / "slow.toml"
    config.write_text("batch_size = 2\nbehaviours = 5\nmlp = [16, 8]\ntower = [12, 8]\n")
    out = tmp_path / "ckpt"
    keep = Path(sys.executable).parent / "keep"
    words: list[str | Path] = [
        keep,
        "pretrain",
        "--log",
        log.path,
        "--out",
        out,
        "--config",
        config,
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not holds_checkpoint(out) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    day = load_checkpoint(out).day
    assert day in (1, 2)
    assert pretrain(log, out, from_checkpoint=out, until=day + 1).day == day + 1
    keys = [(line.day, line.model, line.task) for line in read_metrics(out, until=day + 1)]
    assert len(keys) == len(set(keys)) == 9 * day
