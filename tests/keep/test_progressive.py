"""Progressive validation: each task on its own samples, equal to scoring one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from keep.checkpoint import Pretraining
from keep.features import Rows
from keep.metrics import metrics
from keep.models import score_clicks
from keep.pretraining import start, train_day
from keep.progressive import score_tasks, validate
from tests.keep.tiny import CONFIG, tiny_days

MODELS = ("teacher", "two_tower", "category")


@pytest.fixture(scope="module")
def learned() -> tuple[Pretraining, Rows]:
    """A state after day 1, and day 2 encoded for it."""
    days = tiny_days()
    state = start(days[1], CONFIG)
    train_day(state, 1, days[1])
    return state, state.features.encode(days[2])


@pytest.mark.parametrize("name", MODELS)
def test_click_is_scored_everywhere_and_the_rest_on_clicks(
    learned: tuple[Pretraining, Rows], name: str
) -> None:
    state, rows = learned
    model = state.models.get_submodule(name)
    click, conversion, cart = score_tasks(model, rows, state.features, batch_size=64)
    np.testing.assert_allclose(click, score_clicks(model, rows, state.features), rtol=1e-5)
    clicks = rows.labels[:, 0].sum()
    assert (len(conversion), len(cart)) == (clicks, clicks)
    assert conversion.dtype == cart.dtype == np.float32


def test_conversion_and_cart_are_their_own_tasks_logits(learned: tuple[Pretraining, Rows]) -> None:
    state, rows = learned
    teacher, clicked = state.models.teacher, rows.labels[:, 0]
    user, items = torch.from_numpy(rows.user[clicked]), torch.from_numpy(rows.item[clicked])
    behaviours = torch.from_numpy(state.features.history[rows.user[clicked]].astype(np.int64))
    with torch.inference_mode():
        shared = teacher.shared(user, behaviours, items.unsqueeze(1)).squeeze(1)
        expected = [teacher.tasks(task, shared).numpy() for task in (1, 2)]
    found = score_tasks(teacher, rows, state.features)[1:]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_metrics_are_those_of_each_task_s_samples(learned: tuple[Pretraining, Rows]) -> None:
    state, rows = learned
    clicked = rows.labels[:, 0]
    click, conversion, cart = score_tasks(state.models.teacher, rows, state.features)
    assert validate(state.models.teacher, rows, state.features) == {
        "click": metrics(rows.user, rows.labels[:, 0], click),
        "conversion": metrics(rows.user[clicked], rows.labels[clicked, 1], conversion),
        "cart": metrics(rows.user[clicked], rows.labels[clicked, 2], cart),
    }


def test_a_task_of_one_class_is_left_out(learned: tuple[Pretraining, Rows]) -> None:
    state, rows = learned
    labels = rows.labels.copy()
    labels[:, 1] = False
    labels[:, 2] = labels[:, 0]
    found = validate(state.models.teacher, replace(rows, labels=labels), state.features)
    assert list(found) == ["click"]


def test_a_day_without_impressions_has_no_metrics(learned: tuple[Pretraining, Rows]) -> None:
    state, rows = learned
    nothing = Rows(rows.user[:0], rows.item[:0], rows.labels[:0])
    assert validate(state.models.teacher, nothing, state.features) == {}
