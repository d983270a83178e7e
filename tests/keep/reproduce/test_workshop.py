"""What a reproduction pretrains and reads: the teacher's logit, and labels that tell nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keep.log import Day, Log
from keep.reproduce.workshop import (
    TEACHER,
    PretrainingPlan,
    Workshop,
    click_logits,
    labels_permuted,
)
from tests.keep.tiny import CONFIG, tiny_days, tiny_log

LABELS = ("click", "cart", "conversion")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return tiny_log(tmp_path / "log")


def rows(day: Day, names: tuple[str, ...]) -> list[tuple[bool, ...]]:
    return list(zip(*(getattr(day, name).tolist() for name in names), strict=True))


def test_labels_are_permuted_together_and_nothing_else_is() -> None:
    day = tiny_days()[2]
    found = labels_permuted(day, 2)
    assert sorted(rows(found, LABELS)) == sorted(rows(day, LABELS))
    others = tuple(name for name in vars(day) if name not in LABELS)
    assert rows(found, others) == rows(day, others)
    liked = (day.user // 2**40 + 20 + (day.item - 1000) // 7 % 5) % 3 == 0
    rates = [[one.click[liked].mean(), one.click[~liked].mean()] for one in (day, found)]
    assert rates[0][0] - rates[0][1] > 0.4
    assert abs(rates[1][0] - rates[1][1]) < 0.1
    assert rows(labels_permuted(day, 2), LABELS) == rows(found, LABELS)
    assert rows(labels_permuted(day, 3), LABELS) != rows(found, LABELS)


def test_a_permuted_pretraining_learns_other_labels_and_behaviours_from_the_same_rows(
    log: Log, tmp_path: Path
) -> None:
    shop = Workshop(log.path, tmp_path / "out", CONFIG.behaviours)
    for name in ("true", "permuted"):
        shop.pretrain(PretrainingPlan(name, TEACHER, CONFIG, permuted=name == "permuted"))
    true, permuted = shop.state("true").features, shop.state("permuted").features
    assert np.array_equal(true.users.ids, permuted.users.ids)
    assert np.array_equal(true.shown, permuted.shown)
    assert np.count_nonzero(true.history != permuted.history) > true.history.size / 2


def test_the_teacher_s_click_logit_is_one_column_of_knowledge(log: Log, tmp_path: Path) -> None:
    shop = Workshop(log.path, tmp_path / "out", CONFIG.behaviours)
    shop.pretrain(PretrainingPlan("teacher-1", TEACHER, CONFIG))
    test = shop.data(5).sub_domain(5)
    found = shop.teacher_logits("teacher-1", task=0)(test)
    assert found.shape == (len(test), 1)
    expected = click_logits(shop.state("teacher-1"), test.day)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_students_distilled_at_the_freeze_stand_beside_those_that_go_on(tmp_path: Path) -> None:
    shop = Workshop(tiny_log(tmp_path / "log").path, tmp_path / "out", CONFIG.behaviours)
    values = {"freeze": {"pairs_per_user": 2, "most_steps": 5}}
    assert shop.students_of(1) == "students-1"
    plan = PretrainingPlan.with_students("students-1", CONFIG, values)
    shop.pretrain(plan)
    assert plan.served == shop.students_of(1) == "students-1-distilled"
    assert shop.state(plan.name).optimizers
    taught = shop.state(plan.served).distillation
    assert taught is not None
    assert taught.settings["most_steps"] == 5
    assert PretrainingPlan.with_students("plain", CONFIG, {"towers": "shared"}).served == "plain"
