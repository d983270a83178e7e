"""DARec's reversal against numeric gradients, its schedule, and which head learns from whom."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from keep.data import Data
from keep.systems.darec import (
    DAREC,
    AdversarialLoss,
    DARec,
    Options,
    domain_loss,
    reversal_strength,
    reverse_gradient,
)
from keep.systems.system import inputs
from tests.keep.systems.narrow import NARROW, OPTIONS, tiny_data


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return tiny_data(tmp_path)


@pytest.fixture
def model(data: Data) -> DARec:
    torch.manual_seed(0)
    return DARec(data.sizes, Options(**NARROW))


def classified(x: Tensor) -> Tensor:
    """Some smooth loss of a classifier on top of the reversal."""
    return torch.sin(x).prod() + (x**3).sum()


def test_reversal_is_the_identity_forward() -> None:
    x = torch.randn(3, 4)
    assert torch.equal(reverse_gradient(x, 0.7), x)


def test_reversal_turns_the_gradient_round_and_scales_it() -> None:
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    loss = classified(reverse_gradient(x, 0.7))
    loss.backward()  # type: ignore[no-untyped-call]
    step = 1e-6
    numeric = [
        float(classified(x.detach() + step * unit) - classified(x.detach() - step * unit))
        / 2
        / step
        for unit in torch.eye(5, dtype=torch.float64)
    ]
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), -0.7 * np.array(numeric), rtol=1e-6)


def test_the_reversal_grows_from_nothing_to_nearly_one() -> None:
    assert reversal_strength(0.0) == 0.0
    assert reversal_strength(0.5) == pytest.approx(math.tanh(2.5))
    assert reversal_strength(1.0) == pytest.approx(0.9999, abs=1e-4)


def test_domains_count_half_each_whatever_their_sizes() -> None:
    logits = torch.tensor([0.3, -2.0, 1.0, 0.5, 4.0])
    is_target = torch.tensor([True, False, False, False, False])
    probability = 1 / (1 + np.exp(-logits.numpy()))
    expected = 0.5 * (-np.log(probability[0]) - np.log(1 - probability[1:]).mean())
    assert domain_loss(logits, is_target).item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(domain_loss(logits, torch.zeros(5, dtype=torch.bool)))


def test_extractor_and_heads_are_base_s_layers(model: DARec, data: Data) -> None:
    items, behaviours = inputs(data.sub_domain(4), np.arange(9))
    logits = model.heads(items, behaviours, strength=0.3)
    torch.testing.assert_close(logits.target, model(items, behaviours))
    hidden = torch.relu(model.mlp[0](model.interaction(items, behaviours)))
    torch.testing.assert_close(logits.source, model.source(hidden).squeeze(-1))
    torch.testing.assert_close(logits.domain, model.domain(hidden).squeeze(-1))


def test_classifier_learns_the_domain_that_the_extractor_hides(model: DARec, data: Data) -> None:
    samples = data.super_domain(4)
    items, behaviours = inputs(samples, np.arange(64))
    is_target = torch.from_numpy(samples.day.sub_domain[:64])
    gradients = {}
    for strength in (1.0, -1.0):  # reversed, and as it would be without reversal
        model.zero_grad()
        loss = domain_loss(model.heads(items, behaviours, strength).domain, is_target)
        loss.backward()  # type: ignore[no-untyped-call]
        layers = {"extractor": model.mlp.get_parameter("0.weight")}
        layers["classifier"] = model.domain.get_parameter("0.weight")
        gradients[strength] = {
            name: weight.grad.clone() for name, weight in layers.items() if weight.grad is not None
        }
    assert gradients[1.0]["extractor"].abs().sum() > 0
    torch.testing.assert_close(gradients[1.0]["extractor"], -gradients[-1.0]["extractor"])
    torch.testing.assert_close(gradients[1.0]["classifier"], gradients[-1.0]["classifier"])


def test_loss_is_each_label_by_its_own_head_plus_the_weighted_domain(
    model: DARec, data: Data
) -> None:
    samples = data.super_domain(4)
    positions = np.arange(0, 400, 5)
    logits = model.heads(*inputs(samples, positions), strength=0.0)
    total = 0.0
    for row, position in enumerate(positions):
        head = logits.target if samples.day.sub_domain[position] else logits.source
        sign = 1.0 if samples.day.click[position] else -1.0
        total += math.log1p(math.exp(-sign * head[row].item()))
    is_target = torch.from_numpy(samples.day.sub_domain[positions])
    expected = total / len(positions) + 0.25 * domain_loss(logits.domain, is_target).item()
    loss = AdversarialLoss(model, domain_weight=0.25, days=2, task=0)
    assert loss(samples, positions).item() == pytest.approx(expected, rel=1e-5)


def test_progress_counts_days_in_shares_of_their_impressions(model: DARec, data: Data) -> None:
    loss = AdversarialLoss(model, domain_weight=0.25, days=2, task=0)
    loss(data.super_domain(3), np.arange(400))
    loss(data.super_domain(4), np.arange(100))
    assert loss.days_done == pytest.approx(1.25)


def test_grid_tries_the_domain_s_weight() -> None:
    assert {options.domain_weight for options in DAREC.grid(OPTIONS)} == {0.01, 0.1, 1.0}
