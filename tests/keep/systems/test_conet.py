"""CoNet's cross unit against plain NumPy, and whose label teaches which network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from keep.data import Data
from keep.systems.conet import CONET, CoNet, Options
from keep.systems.system import inputs
from tests.keep.systems.narrow import NARROW, OPTIONS, tiny_data

Floats = NDArray[np.float32]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return tiny_data(tmp_path)


@pytest.fixture
def model(data: Data) -> CoNet:
    torch.manual_seed(0)
    model = CoNet(data.sizes, Options(**NARROW))
    for unit in model.cross:
        assert isinstance(unit, nn.Linear)
        nn.init.normal_(unit.weight)  # far from zero, so that crossing shows
    return model


def slow_networks(model: CoNet, source: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Both networks for one impression, unit by unit."""
    state = {name: tensor.detach().numpy() for name, tensor in model.named_parameters()}
    for layer in range(len(model.cross)):
        shared = state[f"cross.{layer}.weight"]  # H
        pre = {}
        for name, own, other in (("source", source, target), ("mlp", target, source)):
            weight, bias = state[f"{name}.{2 * layer}.weight"], state[f"{name}.{2 * layer}.bias"]
            pre[name] = [
                sum(weight[unit, k] * own[k] for k in range(len(own)))
                + bias[unit]
                + sum(shared[unit, k] * other[k] for k in range(len(other)))
                for unit in range(len(weight))
            ]
        source, target = np.maximum(pre["source"], 0), np.maximum(pre["mlp"], 0)
    last = 2 * len(model.cross)
    return (
        state[f"source.{last}.weight"] @ source + state[f"source.{last}.bias"],
        state[f"mlp.{last}.weight"] @ target + state[f"mlp.{last}.bias"],
    )


def test_each_hidden_layer_is_fed_by_the_other_network_s_layer_below(model: CoNet) -> None:
    source, target = (
        torch.randn(5, model.interaction_width),
        torch.randn(5, model.interaction_width),
    )
    found = model.networks(source, target)
    for row in range(5):
        expected = slow_networks(model, source[row].numpy(), target[row].numpy())
        np.testing.assert_allclose(found[0][row].item(), expected[0][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[1][row].item(), expected[1][0], rtol=1e-4, atol=1e-5)


def test_without_crossing_the_target_is_base(model: CoNet, data: Data) -> None:
    items, behaviours = inputs(data.sub_domain(4), np.arange(9))
    crossed = model(items, behaviours)
    for unit in model.cross:
        assert isinstance(unit, nn.Linear)
        nn.init.zeros_(unit.weight)
    plain = model.mlp(model.interaction(items, behaviours)).squeeze(-1)
    torch.testing.assert_close(model(items, behaviours), plain)
    assert not torch.allclose(crossed, plain)


def test_it_ranks_by_the_target_network(model: CoNet, data: Data) -> None:
    items, behaviours = inputs(data.sub_domain(4), np.arange(9))
    source, target = model.both(items, behaviours)
    assert torch.equal(model(items, behaviours), target)
    assert not torch.allclose(source, target)


def test_a_label_teaches_the_network_of_its_own_domain(data: Data) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        fresh = CoNet(data.sizes, Options(**NARROW))
    last = 2 * len(fresh.cross)

    def changed(source_weight: float) -> dict[str, bool]:
        options = Options(**NARROW, source_weight=source_weight)
        trained = dict(CONET.train(data, (4,), options, seed=1).model.named_parameters())
        return {name: not torch.equal(trained[name], old) for name, old in fresh.named_parameters()}

    target_only, both = changed(0.0), changed(1.0)
    assert target_only[f"mlp.{last}.weight"]
    assert not target_only[f"source.{last}.weight"]
    assert target_only["source.0.weight"]  # by way of the cross unit above it
    assert both[f"source.{last}.weight"]


def test_grid_tries_the_source_s_weight() -> None:
    assert {options.source_weight for options in CONET.grid(OPTIONS)} == {0.3, 1.0, 3.0}
