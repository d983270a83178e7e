"""``keep bundle`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keep.log import Log
from keep.recipes.pretrain import pretrain
from tests.commands import Place, command, done
from tests.keep.tiny import CONFIG, tiny_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return tiny_log(tmp_path_factory.mktemp("log") / "tiny")


@pytest.fixture(scope="module")
def checkpoint(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "ckpt"
    pretrain(log, path, config=CONFIG)
    return path


def test_writes_a_bundle_and_says_what_it_checked_and_covers(
    log: Log, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundles" / "day3"
    words = ("--checkpoint", checkpoint, "--log", log.path, "--out", out)
    printed = done("keep", "bundle", *words, "--top-categories", 1)
    assert "largest difference between ONNX and torch: " in printed
    assert "coverage of the" in printed
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["name"] == "day3"
    card = (out / "model_card.md").read_text()
    assert "| 3 | two_tower | cart |" in card
    assert next(line for line in printed.splitlines() if line.startswith("coverage")) in card

    place = Place(f"file:{tmp_path / 'store'}", "default")
    checked = ("--version", "v3", "--bundle", out, "--dry-run")
    result = command("gkc-export", *checked, place=place)
    assert result.returncode == 0, result.stderr
    assert "manifest_key_ignored" not in result.stderr

    again = command("keep", "bundle", *words)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def test_no_checkpoint_is_one_line(log: Log, tmp_path: Path) -> None:
    words = ("--checkpoint", tmp_path, "--log", log.path, "--out", tmp_path / "out")
    result = command("keep", "bundle", *words)
    assert result.returncode == 1
    assert "make one: keep pretrain" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_shows_an_example() -> None:
    assert "Example: keep bundle --checkpoint" in done("keep", "bundle", "--help")
