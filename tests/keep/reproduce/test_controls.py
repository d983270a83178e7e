"""What the compared systems are held against."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from keep.checkpoint import load_checkpoint
from keep.popularity import popularity
from keep.pretraining import train_day
from keep.reproduce.controls import CONTROLS
from keep.reproduce.workshop import STUDENTS, TEACHER, PretrainingPlan, Workshop, click_logits
from keep.sources.simulator import SimulatorConfig, simulate
from tests.keep.tiny import CONFIG


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    config = SimulatorConfig(users=20, items=30, categories=4, days=5, impressions_per_day=200)
    simulate(config, 1, tmp_path / "log", lambda amount: None)
    return Workshop(tmp_path / "log", tmp_path / "out", behaviours=5)


def test_the_teacher_is_trained_on_without_its_students(shop: Workshop) -> None:
    config = dataclasses.replace(CONFIG, distillation=1.0)
    shop.pretrain(PretrainingPlan("students-1", (*TEACHER, *STUDENTS), config))
    day = shop.log.info.test_day
    test = shop.data(day).sub_domain(day)
    before = CONTROLS["teacher"].score(shop, 1, test)
    on = CONTROLS["teacher_trained_on"].score(shop, 1, test)
    state = load_checkpoint(shop.out / "work" / "pretrain" / "students-1")
    np.testing.assert_array_equal(before, click_logits(state, test.day))
    for number in shop.log.info.train_days:
        train_day(state, number, shop.log.day(number))
    np.testing.assert_array_equal(on, click_logits(state, test.day))
    assert not np.array_equal(on, before)
    np.testing.assert_array_equal(CONTROLS["teacher"].score(shop, 1, test), before)


def test_the_item_rate_and_the_oracle_are_scored_without_chance(shop: Workshop) -> None:
    day = shop.log.info.test_day
    test = shop.data(day).sub_domain(day)
    rate, truth = (CONTROLS[name].score(shop, 1, test) for name in ("item_rate", "oracle"))
    np.testing.assert_array_equal(rate, popularity(shop.log, shop.version_day, test.day))
    np.testing.assert_array_equal(truth, shop.truth(test))
    with_seed = {name for name, control in CONTROLS.items() if control.has_seed}
    assert with_seed == {"teacher", "teacher_trained_on"}
