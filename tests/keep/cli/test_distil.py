"""``keep distil`` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from keep.checkpoint import load_checkpoint
from keep.log import Log
from keep.metrics_log import read_metrics
from keep.recipes.pretrain import pretrain
from tests.in_process import command, done
from tests.keep.tiny import CONFIG


@pytest.fixture(scope="module")
def checkpoint(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "ckpt"
    pretrain(log, path, config=CONFIG)
    return path


def test_its_checkpoint_is_bundled_as_it_is_and_learns_no_further_day(
    log: Log, checkpoint: Path, tmp_path: Path
) -> None:
    out, bundle = tmp_path / "served", tmp_path / "bundle"
    words = ("--checkpoint", checkpoint, "--log", log.path, "--out", out)
    printed = done("keep", "distil", *words, "--most-steps", 30, "--task-weight", 0.3)
    for line in ("two_tower: 30 steps", "category: 30 steps", "  neither ever drawn  "):
        assert line in printed
    assert re.search(r"distilled with [\d,]+ pairs, [\d.]+ a user", printed)
    assert f"distilled checkpoint of day 3: {out}" in printed
    state = load_checkpoint(out)
    assert state.distillation is not None
    assert state.distillation.settings["task_weight"] == 0.3
    assert read_metrics(out, 3) == read_metrics(checkpoint, 3) != []

    again = command("keep", "distil", *words)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "is there already; name another --out" in again.stderr

    source = ("--checkpoint", out, "--log", log.path)
    done("keep", "bundle", *source, "--out", bundle)
    assert json.loads((bundle / "manifest.json").read_text())["vector_space"] == state.vector_space
    card = (bundle / "model_card.md").read_text()
    assert "`two_tower` 30 steps in" in card
    assert "task_weight 0.3" in card
    assert "| category | cart | " in card

    further = ("--from-checkpoint", out, "--log", log.path, "--out", out, "--until", 4)
    refused = command("keep", "pretrain", *further)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "its students are distilled; go on from the checkpoint that" in refused.stderr


def test_help_shows_an_example() -> None:
    assert "Example: keep distil --checkpoint" in done("keep", "distil", "--help")
