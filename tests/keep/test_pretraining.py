"""A day of pretraining: what is learned, by whom, and with what losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from keep.checkpoint import load_checkpoint, save_checkpoint
from keep.features import Batch
from keep.log import Log
from keep.pretraining import start, train_day
from tests.keep.tiny import CONFIG, tiny_days


def test_a_day_is_scored_before_anything_of_it_is_learned() -> None:
    days, flipped = tiny_days(), tiny_days(flip_from=2)
    reports = []
    for second in (days[2], flipped[2]):
        state = start(days[1], CONFIG)
        assert train_day(state, 1, days[1]).metrics == {}
        reports.append(train_day(state, 2, second))
    for name in ("teacher", "two_tower", "category"):
        straight, turned = (report.metrics[name]["click"].gauc for report in reports)
        assert straight + turned == pytest.approx(1.0)


def test_with_distillation_the_students_learn_from_the_teacher_of_the_same_day(log: Log) -> None:
    day = log.day(1)
    states = {}
    for weight in (0.0, 1.0):
        state = start(day, replace(CONFIG, distillation=weight))
        train_day(state, 1, day)
        states[weight] = dict(state.models.named_parameters())
    equal = {name: torch.equal(value, states[1.0][name]) for name, value in states[0.0].items()}
    assert all(same for name, same in equal.items() if name.startswith("teacher"))
    assert not equal["two_tower.user.weight"]
    assert not equal["category.user.weight"]


def test_students_have_a_learning_rate_of_their_own(log: Log) -> None:
    day = log.day(1)
    one, other = (
        start(day, replace(CONFIG, student_learning_rate=rate)) for rate in (0.001, 0.003)
    )
    for state in (one, other):
        train_day(state, 1, day)
    ours, theirs = one.models.state_dict(), other.models.state_dict()
    equal = {name: torch.equal(value, theirs[name]) for name, value in ours.items()}
    assert all(same for name, same in equal.items() if name.startswith("teacher"))
    assert not equal["two_tower.user.weight"]
    assert not equal["category.user.weight"]


def test_an_extra_loss_is_added_to_every_step_of_every_model(log: Log) -> None:
    day = log.day(1)
    calls: list[str] = []

    def extra(name: str, batch: Batch, logits: list[Tensor]) -> Tensor:
        calls.append(name)
        return 0.0 * logits[0].sum()

    one, other = (start(day, CONFIG, ("two_tower", "category")) for _ in range(2))
    train_day(one, 1, day)
    train_day(other, 1, day, extra)
    assert sorted(calls) == ["category"] * 7 + ["two_tower"] * 7
    for name, value in one.models.state_dict().items():
        torch.testing.assert_close(other.models.state_dict()[name], value)


def test_a_checkpoint_holds_the_models_that_were_trained(log: Log, tmp_path: Path) -> None:
    state = start(log.day(1), CONFIG, ("teacher",))
    train_day(state, 1, log.day(1))
    save_checkpoint(state, tmp_path / "ckpt")
    again = load_checkpoint(tmp_path / "ckpt")
    assert again.models.trained == ("teacher",)
    train_day(again, 2, log.day(2))


def test_a_teacher_without_students_has_none_to_distil_into() -> None:
    days = tiny_days()
    config = replace(CONFIG, distillation=1.0)
    alone, both = start(days[1], config, ("teacher",)), start(days[1], config)
    for state in (alone, both):
        train_day(state, 1, days[1])
    weights = both.models.teacher.state_dict()
    for name, tensor in alone.models.teacher.state_dict().items():
        assert torch.equal(tensor, weights[name])
