"""Checkpoints: whole at every moment, equal to what was saved, refused when damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from keep import checkpoint
from keep.checkpoint import (
    CheckpointError,
    OtherIdsError,
    Pretraining,
    load_checkpoint,
    require_ids,
    save_checkpoint,
)
from keep.log import Log
from keep.pretraining import start, train_day
from tests.keep.hostile import save_hostile
from tests.keep.tiny import CONFIG, tiny_days


@pytest.fixture
def state() -> Pretraining:
    day = tiny_days()[1]
    state = start(day, CONFIG, string_ids=("shop",))
    train_day(state, 1, day)
    return state


def test_what_is_loaded_is_what_was_saved(state: Pretraining, tmp_path: Path) -> None:
    save_checkpoint(state, tmp_path / "ckpt")
    found = load_checkpoint(tmp_path / "ckpt")
    assert (found.config, found.day, found.string_ids) == (CONFIG, 1, ("shop",))
    weights = found.models.state_dict()
    for name, tensor in state.models.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    for name, optimizer in state.optimizers.items():
        before = optimizer.state_dict()["state"]
        after = found.optimizers[name].state_dict()["state"]
        assert before.keys() == after.keys()
        for parameter, moments in before.items():
            for key, value in moments.items():
                assert torch.equal(after[parameter][key], value)
    for name in ("history", "item_shop", "item_category", "shown"):
        assert np.array_equal(getattr(found.features, name), getattr(state.features, name))
    assert found.vector_space == state.vector_space
    ids = tiny_days()[1].user
    assert np.array_equal(found.features.users.rows(ids), state.features.users.rows(ids))


def test_a_checkpoint_that_does_not_say_so_has_no_strings(
    state: Pretraining, tmp_path: Path
) -> None:
    save_checkpoint(state, tmp_path)
    [file] = tmp_path.glob("day-*/config.json")
    config = json.loads(file.read_text())
    del config["string_ids"]
    file.write_text(json.dumps(config))
    assert load_checkpoint(tmp_path).string_ids == ()


def test_a_log_whose_ids_are_of_another_type_is_refused(log: Log, state: Pretraining) -> None:
    as_pretrained = Log(log.path, replace(log.info, string_ids=("shop",)))
    require_ids(state, as_pretrained)
    with pytest.raises(OtherIdsError, match=r"its shops are integers, those that .* are strings;"):
        require_ids(state, log)
    with pytest.raises(OtherIdsError, match=r"its items are strings, those that .* are integers;"):
        require_ids(state, Log(log.path, replace(log.info, string_ids=("item", "shop"))))


def test_a_vector_space_is_that_of_the_students_weights_alone(state: Pretraining) -> None:
    space = state.vector_space
    with torch.no_grad():
        next(state.models.teacher.parameters()).add_(1)
    assert state.vector_space == space
    with torch.no_grad():
        next(state.models.category.parameters()).view(-1)[0] += 1
    assert state.vector_space != space


def test_a_save_that_dies_before_its_last_step_leaves_the_former_state(
    state: Pretraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ckpt"
    save_checkpoint(state, path)

    def die(path: Path, text: str, *, durable: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_text", die)
    state.day = 2
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(state, path)
    assert load_checkpoint(path).day == 1
    monkeypatch.undo()
    save_checkpoint(state, path)
    assert load_checkpoint(path).day == 2
    assert len(list(path.glob("day-*"))) == 1


def test_no_checkpoint_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="keep pretrain"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("file", ["weights.pt", "features.npz", "config.json"])
def test_a_damaged_file_is_said_so(state: Pretraining, tmp_path: Path, file: str) -> None:
    save_checkpoint(state, tmp_path)
    (found,) = tmp_path.glob(f"day-*/{file}")
    found.write_bytes(found.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path)


def test_code_in_place_of_weights_is_refused(state: Pretraining, tmp_path: Path) -> None:
    save_checkpoint(state, tmp_path)
    (file,) = tmp_path.glob("day-*/weights.pt")
    save_hostile(file)
    with pytest.raises(CheckpointError, match=r"damaged \(weights.pt holds other things than"):
        load_checkpoint(tmp_path)
    assert not file.with_name("ran").exists()


@pytest.mark.parametrize(
    ("pointer", "message"),
    [
        ({"format": "other/9"}, "'other/9' is not"),
        ([], "None is not"),
        ({"format": "keep-checkpoint/2"}, "names no state"),
    ],
)
def test_a_pointer_to_something_else_is_said_so(
    pointer: object, message: str, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.json").write_text(json.dumps(pointer))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)
