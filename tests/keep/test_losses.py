"""The losses against plain NumPy (equations 1 to 3)."""

from __future__ import annotations

import numpy as np
import torch

from keep.losses import hybrid_loss, pair_loss, point_loss

RNG = np.random.default_rng(0)


def sigmoid(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))


def test_point_loss_is_equation_1_averaged() -> None:
    s, c = RNG.normal(size=40), RNG.integers(0, 2, size=40)
    expected = np.mean(
        [
            -y * np.log(sigmoid(x)) - (1 - y) * np.log(1 - sigmoid(x))
            for x, y in zip(s, c, strict=True)
        ]
    )
    found = point_loss(torch.tensor(s), torch.tensor(c, dtype=torch.float64))
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


def test_pair_loss_is_equation_2_averaged_with_the_positive_first() -> None:
    own, other, label = RNG.normal(size=30), RNG.normal(size=30), RNG.integers(0, 2, size=30)
    terms = []
    for mine, partner, c in zip(own, other, label, strict=True):
        positive, negative = (mine, partner) if c else (partner, mine)
        terms.append(np.log(1 + np.exp(-(positive - negative))))
    found = pair_loss(
        torch.tensor(own), torch.tensor(label, dtype=torch.float64), torch.tensor(other)
    )
    np.testing.assert_allclose(found.item(), np.mean(terms), rtol=1e-12)


def test_hybrid_loss_is_equation_3_and_pairs_only_samples_with_a_partner() -> None:
    s = torch.tensor(RNG.normal(size=10))
    c = torch.tensor(RNG.integers(0, 2, size=10), dtype=torch.float64)
    paired, partner = torch.tensor([1, 4, 7]), torch.tensor(RNG.normal(size=3))
    expected = point_loss(s, c) + 0.25 * pair_loss(s[[1, 4, 7]], c[[1, 4, 7]], partner)
    found = hybrid_loss(s, c, paired, partner, pair_weight=0.25)
    np.testing.assert_allclose(found.item(), expected.item(), rtol=1e-12)


def test_a_batch_without_samples_or_partners_costs_nothing() -> None:
    nothing = torch.empty(0, requires_grad=True)
    loss = hybrid_loss(nothing, nothing, torch.empty(0, dtype=torch.int64), nothing, 0.25)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
