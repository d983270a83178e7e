"""Tables that grow with the vocabularies, and losses over the tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from keep.config import CHOICES, MODELS, TASKS
from keep.features import UNKNOWN, click_batch, training_batches
from keep.losses import batch_pair_loss, pair_loss, point_loss
from keep.models import (
    Models,
    distillation_loss,
    grow_tables,
    score_clicks,
    table_sizes,
    task_losses,
)
from keep.pretraining import start, train_day
from tests.keep.tiny import CONFIG, tiny_days


def test_new_ids_start_as_the_unknown_one_and_the_optimizer_grows_along() -> None:
    days = tiny_days()
    state = start(days[1], CONFIG)
    train_day(state, 1, days[1])
    before = table_sizes(state.features)
    old = state.models.teacher.features.item.weight.detach().clone()
    state.features.grow(days[5])
    grow_tables(state.models, state.optimizers, state.features)
    after = table_sizes(state.features)
    assert after.items > before.items
    models = state.models
    for name, model in (
        ("teacher", models.teacher),
        ("two_tower", models.two_tower),
        ("category", models.category),
    ):
        optimizer = state.optimizers[name]
        parameters = set(model.parameters())
        assert set(optimizer.param_groups[0]["params"]) == set(optimizer.state) == parameters
        table = model.features.item
        assert table.weight.shape[0] == table.num_embeddings == after.items
        new_rows = table.weight[before.items :]
        assert torch.equal(new_rows, table.weight[UNKNOWN].expand_as(new_rows))
        moments = optimizer.state[table.weight]
        assert moments["exp_avg"].shape == moments["exp_avg_sq"].shape == table.weight.shape
        assert moments["exp_avg"][before.items :].abs().sum() == 0
        assert len(model.features.item_shop) == after.items
    assert torch.equal(state.models.teacher.features.item.weight[: before.items], old)


def test_training_goes_on_after_growth() -> None:
    days = tiny_days()
    state = start(days[1], CONFIG)
    train_day(state, 1, days[1])
    train_day(state, 5, days[5])
    table = state.models.teacher.features.item.weight
    assert not torch.equal(table[-1], table[UNKNOWN])


def test_task_losses_are_equation_3_for_each_task_and_pair_only_samples_with_a_partner() -> None:
    days = tiny_days()
    state = start(days[1], CONFIG)
    rows = state.features.encode(days[1])
    batch = click_batch(rows, state.features, np.arange(6))
    logits = torch.randn(6)
    three = type(batch)(
        batch.user,
        batch.behaviours,
        batch.items,
        batch.scored * 3,
        batch.labels * 3,
        (torch.tensor([1, 4]),) * 3,
        batch.samples,
    )
    partner = torch.randn(2)
    labels = batch.labels[0]
    point = point_loss(logits, labels)
    expected = point + 0.25 * pair_loss(logits[[1, 4]], labels[[1, 4]], partner)
    for loss in task_losses([torch.cat([logits, partner])] * 3, three, CONFIG):
        torch.testing.assert_close(loss, expected)
    across = task_losses([logits] * 3, three, replace(CONFIG, pairs="batch"))
    for loss in across:
        torch.testing.assert_close(loss, point + 0.25 * batch_pair_loss(logits, labels))


@pytest.mark.parametrize("pairs", CHOICES["pairs"])
@pytest.mark.parametrize("weighting", CHOICES["weighting"])
def test_each_weighting_is_the_sums_that_it_says(weighting: str, pairs: str) -> None:
    config = replace(CONFIG, weighting=weighting, pairs=pairs, pair_weight=0.3)
    days = tiny_days()
    state = start(days[1], config)
    rows = state.features.encode(days[1])
    rng = np.random.default_rng(1)
    for batch in training_batches(rows, state.features, config, rng):
        logits = [torch.randn(len(line)) for line, _ in batch.scored]
        found = task_losses(logits, batch, config)
        assert 0 < len(batch.labels[1]) < len(batch.labels[0]) == len(batch.samples)
        for task in range(len(TASKS)):
            labels = batch.labels[task].numpy()
            point, pair, count = slow_sums(logits[task].numpy(), labels, batch.paired[task], pairs)
            impressions = len(batch.samples)
            expected = {
                "means": point / len(labels) + 0.3 * pair / count,
                "click_rate": (point / len(labels) + 0.3 * pair / count)
                * (len(labels) / impressions),
                "sums": (point + 0.3 * pair) / impressions,
            }[weighting]
            assert found[task].item() == pytest.approx(expected, rel=1e-5)


def slow_sums(
    logits: np.ndarray, labels: np.ndarray, paired: torch.Tensor, pairs: str
) -> tuple[float, float, int]:
    """Add up equations 1 and 2 term by term, and count the terms of equation 2.

    With pairs across the batch, a sample's term is the mean over its partners.
    """
    point = pair = 0.0
    for score, label in zip(logits, labels, strict=False):
        chance = 1 / (1 + np.exp(-float(score)))
        point -= np.log(chance if label else 1 - chance)
    if pairs == "day":
        for place, sample in enumerate(paired.tolist()):
            own, partner = float(logits[sample]), float(logits[len(labels) + place])
            margin = own - partner if labels[sample] else partner - own
            pair += np.log(1 + np.exp(-margin))
        return point, pair, len(paired)
    for score, label in zip(logits, labels, strict=True):
        others = logits[labels != label].astype(np.float64)
        margins = float(score) - others if label else others - float(score)
        pair += np.mean(np.log(1 + np.exp(-margins)))
    return point, pair, len(labels)


def test_distillation_is_the_squared_error_of_the_samples_own_logits() -> None:
    days = tiny_days()
    state = start(days[1], CONFIG)
    batch = click_batch(state.features.encode(days[1]), state.features, np.arange(6))
    own, taught = torch.randn(6), torch.randn(6)
    partners = torch.randn(2)
    found = distillation_loss([torch.cat([own, partners])], [torch.cat([taught, -partners])], batch)
    np.testing.assert_allclose(found, np.mean((own.numpy() - taught.numpy()) ** 2), rtol=1e-6)


def test_a_model_s_first_weights_do_not_depend_on_which_others_there_are() -> None:
    days = tiny_days()
    every = start(days[1], CONFIG)
    for name in MODELS:
        alone = start(days[1], CONFIG, (name,))
        assert alone.models.trained == (name,)
        expected = every.models.get_submodule(name).state_dict()
        for key, value in alone.models.get_submodule(name).state_dict().items():
            assert torch.equal(value, expected[key])
    assert isinstance(every.models, Models)
    assert every.models.trained == MODELS


def test_a_model_learns_the_same_alone() -> None:
    days = tiny_days()
    every, alone = start(days[1], CONFIG), start(days[1], CONFIG, ("two_tower",))
    for state in (every, alone):
        train_day(state, 1, days[1])
    weights = alone.models.two_tower.state_dict()
    for key, value in every.models.two_tower.state_dict().items():
        torch.testing.assert_close(value, weights[key])


def test_scores_do_not_depend_on_how_rows_are_batched() -> None:
    days = tiny_days()
    state = start(days[1], CONFIG)
    state.features.observe(days[1])
    rows = state.features.encode(days[1])
    whole = score_clicks(state.models.teacher, rows, state.features)
    parts = score_clicks(state.models.teacher, rows, state.features, batch_size=7)
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-6)
