"""``keep bundle`` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keep.checkpoint import load_checkpoint
from keep.compatibility import compatibility
from keep.distillation import distil
from keep.knowledge import student_knowledge
from keep.log import Log
from keep.recipes.pretrain import pretrain
from keep.served import ServedKnowledge
from keep.serving import serving
from tests.commands import Place
from tests.in_process import command, done, export
from tests.keep.tiny import CONFIG, ITEMS, tiny_log


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
    printed = done("keep", "bundle", *words, "--top-categories", 1, "--no-distil")
    assert "largest difference between ONNX and torch: " in printed
    assert "coverage of the" in printed
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["name"] == "day3"
    card = (out / "model_card.md").read_text()
    assert "| 3 | two_tower | cart |" in card
    assert manifest["vector_space"] == load_checkpoint(checkpoint).vector_space
    assert "The students are as pretraining left them." in card
    assert next(line for line in printed.splitlines() if line.startswith("coverage")) in card

    place = Place(f"file:{tmp_path / 'store'}", "default")
    checked = ("--version", "v3", "--bundle", out, "--dry-run")
    result = command("gkc-export", *checked, place=place)
    assert result.returncode == 0, result.stderr

    again = command("keep", "bundle", *words)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert len(again.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("bundle", "--checkpoint", "CKPT"),
        ("bundle", "--compatible-with", "CKPT", "--checkpoint", "CKPT"),
        ("pretrain", "--from-checkpoint", "CKPT", "--until", 5),
    ],
)
def test_a_log_with_strings_is_not_that_of_a_checkpoint_of_integers(
    log: Log, checkpoint: Path, tmp_path: Path, words: tuple[object, ...]
) -> None:
    other, out = tmp_path / "log", tmp_path / "out"
    shutil.copytree(log.path, other)
    info = json.loads((other / "log.json").read_text()) | {"string_ids": ["user"]}
    (other / "log.json").write_text(json.dumps(info))
    given = (checkpoint if word == "CKPT" else word for word in words)
    told = command("keep", *given, "--log", other, "--out", out)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "its users are strings, those that the checkpoint was pretrained on are" in told.stderr
    assert not out.exists()


@pytest.mark.parametrize("top", [None, 2])
def test_rows_as_served_are_those_read_offline_with_as_many_categories(
    top: int | None, tmp_path: Path
) -> None:
    log = tiny_log(tmp_path / "log", categories=ITEMS)
    state = distil(pretrain(log, tmp_path / "ckpt", config=CONFIG), log)
    words = ("--checkpoint", tmp_path / "ckpt", "--log", log.path, "--out", tmp_path / "bundle")
    done("keep", "bundle", *words, *(() if top is None else ("--top-categories", top)))
    place = Place(f"file:{tmp_path / 'store'}", "default")
    export(tmp_path / "bundle", "v", place)
    day = log.day(4)
    ids = (day.user, day.item, day.category)
    with (
        serving(place.url, os.environ, tmp_path / "serve.log") as url,
        ServedKnowledge(url, "v") as knowledge,
    ):
        served = knowledge(*ids)
    others = student_knowledge(state, *ids, as_stored=True)
    offline = (
        others
        if top is None
        else student_knowledge(state, *ids, as_stored=True, top_categories=top)
    )
    assert np.abs(served - offline).max() < 2e-3 * np.abs(offline).max()
    if top is not None:
        assert np.abs(served - others).max() > 0.01 * np.abs(offline).max()


def test_a_version_in_an_older_one_s_axes_says_so_all_the_way_to_the_catalogue(
    log: Log, checkpoint: Path, tmp_path: Path
) -> None:
    fresh, out = tmp_path / "fresh", tmp_path / "bundle"
    pretrain(log, fresh, config=replace(CONFIG, seed=7))
    words = ("--checkpoint", fresh, "--log", log.path, "--out", out)
    printed = done("keep", "bundle", *words, "--compatible-with", checkpoint)
    # Of so few users no map finds the other seed's axes.
    assert re.search("in the axes of ckpt, day 3: user .*; too far off to be of its", printed)
    manifest = json.loads((out / "manifest.json").read_text())
    [found] = manifest["compatible_with"]
    old, new = (distil(load_checkpoint(path), log) for path in (checkpoint, fresh))
    assert "vector_space" not in manifest
    assert (found["checkpoint"], found["day"], found["method"]) == ("ckpt", 3, "ridge")
    assert set(found["relative_error"]) == {"user", "item", "user_category", "user_item"}
    assert "in the axes of:** checkpoint ckpt, day 3 (ridge" in (out / "model_card.md").read_text()

    place = Place(f"file:{tmp_path / 'store'}", "default")
    export(out, "v", place)
    [version] = json.loads(done("gkc", "versions", "--json", place=place))["versions"]
    assert version["compatible_with"] == [found]
    assert version["vector_space"] not in (old.vector_space, new.vector_space)
    day = log.day(5)
    ids = (day.user, day.item, day.category)
    maps = compatibility(new, old, "ckpt", log).maps
    with (
        serving(place.url, os.environ, tmp_path / "serve.log") as url,
        ServedKnowledge(url, "v") as knowledge,
    ):
        rows = knowledge(*ids)
    mapped = student_knowledge(new, *ids, maps=maps, as_stored=True)
    np.testing.assert_allclose(rows, mapped, atol=2e-3 * np.abs(mapped).max())
    plain, wanted = student_knowledge(new, *ids), student_knowledge(old, *ids)
    assert np.abs(rows - wanted).mean() < 0.8 * np.abs(plain - wanted).mean()


def test_a_version_of_another_width_cannot_be_mapped_to(
    log: Log, checkpoint: Path, tmp_path: Path
) -> None:
    wide = tmp_path / "wide"
    pretrain(log, wide, until=1, config=replace(CONFIG, tower=(12, 10)))
    words = ("--checkpoint", wide, "--log", log.path, "--out", tmp_path / "bundle")
    result = command("keep", "bundle", *words, "--compatible-with", checkpoint, "--no-distil")
    assert result.returncode == 1
    assert "checkpoint ckpt: is (24, 24) wide, the new version (30, 24)" in result.stderr
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("step", ["keep.distillation._teach", "keep.bundle._write_manifest"])
def test_an_interrupt_leaves_nothing_behind(
    log: Log, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupted)
    words = ("--checkpoint", checkpoint, "--log", log.path, "--out", tmp_path / "out" / "day3")
    extra = ("--no-distil",) if "bundle" in step else ()
    before = {file: file.stat().st_mtime_ns for file in checkpoint.rglob("*")}
    assert command("keep", "bundle", *words, *extra).returncode == 130
    assert [file for file in tmp_path.rglob("*") if not file.is_dir()] == []
    assert {file: file.stat().st_mtime_ns for file in checkpoint.rglob("*")} == before


def test_no_checkpoint_is_one_line(log: Log, tmp_path: Path) -> None:
    words = ("--checkpoint", tmp_path, "--log", log.path, "--out", tmp_path / "out")
    result = command("keep", "bundle", *words)
    assert result.returncode == 1
    assert "make one: keep pretrain" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_shows_an_example() -> None:
    assert "Example: keep bundle --checkpoint" in done("keep", "bundle", "--help")
