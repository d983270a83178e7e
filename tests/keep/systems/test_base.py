"""Base against plain NumPy, one impression and one behaviour at a time."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from keep.data import Data
from keep.gauc import gauc
from keep.systems import base
from keep.systems.base import BASE, Base, CoActionUnit, click_loss, go_on
from keep.systems.system import fit, inputs
from tests.keep.systems.narrow import OPTIONS, plain_data, tiny_data

Floats = NDArray[np.floating]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return tiny_data(tmp_path)


def parameters(model: torch.nn.Module) -> dict[str, Floats]:
    return {name: tensor.detach().numpy() for name, tensor in model.named_parameters()}


def slow_co_action(unit: CoActionUnit, target: int, behaviours: list[int]) -> Floats:
    """The mean, over the behaviours, of both layers of the target's own micro-MLP."""
    feed, first, second = unit.widths
    state = parameters(unit)
    own = list(state["induction.weight"][target])
    w1 = np.array([[own.pop(0) for _ in range(first)] for _ in range(feed)])
    b1 = np.array([own.pop(0) for _ in range(first)])
    w2 = np.array([[own.pop(0) for _ in range(second)] for _ in range(first)])
    b2 = np.array([own.pop(0) for _ in range(second)])
    assert not own
    outputs = []
    for behaviour in behaviours:
        if behaviour != 0:
            h1 = np.tanh(state["feed.weight"][behaviour] @ w1 + b1)
            outputs.append(np.concatenate([h1, np.tanh(h1 @ w2 + b2)]))
    return np.mean(outputs, axis=0) if outputs else np.zeros(first + second)


def slow_attention(model: Base, query: Floats, keys: Floats) -> Floats:
    """DIN's activation unit over [q, k, q * k], behaviour by behaviour."""
    state = parameters(model.attention)
    pooled = np.zeros_like(query)
    for key in keys:
        hidden = query @ state["query.weight"].T + state["query.bias"]
        hidden = np.maximum(hidden + key @ state["key"] + (query * key) @ state["product"], 0)
        pooled += (state["score.weight"] @ hidden + state["score.bias"]) * key
    return pooled


def slow_interaction(model: Base, item: list[int], behaviours: list[int]) -> Floats:
    """Everything that the MLP sees of one impression."""
    state = parameters(model.features)
    shop, category = model.features.item_shop.tolist(), model.features.item_category.tolist()

    def embedded(of_item: int, of_shop: int, of_category: int) -> Floats:
        return np.concatenate(
            [
                state["item.weight"][of_item],
                state["shop.weight"][of_shop],
                state["category.weight"][of_category],
            ]
        )

    there = [row for row in behaviours if row != 0]
    candidate = embedded(*item)
    keys = np.array([embedded(row, shop[row], category[row]) for row in there])
    return np.concatenate(
        [
            candidate,
            slow_attention(model, candidate, keys),
            slow_co_action(model.item_action, item[0], there),
            slow_co_action(model.category_action, item[2], [category[row] for row in there]),
        ]
    )


def test_co_action_runs_the_target_s_own_mlp_over_each_behaviour() -> None:
    torch.manual_seed(0)
    unit = CoActionUnit(rows=9, feed=3, width=2)
    target = torch.tensor([2, 8, 4])
    behaviours = torch.tensor([[0, 3, 2, 2], [5, 6, 7, 8], [0, 0, 0, 0]])
    found = unit(target, behaviours, (behaviours != 0).float()).detach().numpy()
    assert found.shape == (3, 4)
    for row in range(3):
        expected = slow_co_action(unit, int(target[row]), behaviours[row].tolist())
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)
    assert (found[2] == 0).all()


def test_interaction_is_candidate_attention_and_co_actions(data: Data) -> None:
    model = base.make(data, OPTIONS, seed=3)
    with torch.no_grad():
        model.features.item.weight[1:] *= 30  # so that every part weighs
    samples = data.sub_domain(4)
    items, behaviours = inputs(samples, np.arange(20))
    found = model.interaction(items, behaviours).detach().numpy()
    assert found.shape == (20, model.interaction_width)
    for row in range(20):
        expected = slow_interaction(model, items[row].tolist(), behaviours[row].tolist())
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_a_hidden_layer_puts_out_a_pre_activation(data: Data) -> None:
    model = base.make(data, OPTIONS, seed=3)
    items, behaviours = inputs(data.sub_domain(4), np.arange(8))
    before = model(items, behaviours)
    assert before.shape == (8,)
    handle = model.hidden_layer(1).register_forward_hook(lambda _, __, output: output - 1e6)
    dead = model(items, behaviours)
    handle.remove()
    assert torch.equal(dead, dead[:1].expand(8))  # no hidden unit is left to tell them apart
    assert torch.equal(model(items, behaviours), before)


def test_training_can_go_on_with_further_days(tmp_path: Path) -> None:
    data = plain_data(tmp_path)
    ranker = BASE.train(data, (1,), OPTIONS, seed=1)
    samples = data.sub_domain(5)

    def value() -> float:
        return gauc(samples.day.user, samples.day.click, ranker.score(samples)).value

    first = value()
    ranker.model.train()
    days = map(data.super_domain, (2, 3, 4))
    steps = fit(ranker.parameters(), days, click_loss(ranker.model, 0), OPTIONS, seed=1)
    assert steps == 3 * 13
    assert value() > max(first, 0.7)


def test_grid_starts_from_the_best() -> None:
    options = BASE.grid(OPTIONS)
    assert len(set(options)) == 12
    assert {(option.hidden, option.feature_dim) for option in options} == {((12, 6), 4)}


def test_it_goes_on_from_a_copy_with_a_fresh_adam(tmp_path: Path) -> None:
    data = tiny_data(tmp_path)
    start = BASE.train(data, (1, 2, 3), OPTIONS, seed=1).model
    before = copy.deepcopy(start.state_dict())
    further = replace(OPTIONS, learning_rate=0.02, batch_size=400)
    found = go_on(start, data, (4,), further, seed=1).model
    for name, tensor in start.state_dict().items():
        assert torch.equal(tensor, before[name])
    # A fresh Adam's first step is the learning rate, whatever the gradient.
    step = (found.hidden_layer(1).weight - start.hidden_layer(1).weight).abs()
    torch.testing.assert_close(step.max().item(), 0.02, rtol=1e-3, atol=0)
