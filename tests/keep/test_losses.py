"""The losses against plain NumPy (equations 1 to 3)."""

from __future__ import annotations

import numpy as np
import torch

from keep.losses import batch_pair_loss, block_loss, pair_loss, point_loss

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


def test_batch_pair_loss_is_equation_2_over_every_positive_and_negative() -> None:
    s, c = RNG.normal(size=12), np.arange(12) % 3 == 0
    terms = [np.log(1 + np.exp(-(p - n))) for p in s[c] for n in s[~c]]
    found = batch_pair_loss(torch.tensor(s), torch.tensor(c, dtype=torch.float64))
    np.testing.assert_allclose(found.item(), np.mean(terms), rtol=1e-12)


def test_a_batch_without_samples_or_partners_costs_nothing() -> None:
    nothing = torch.empty(0, requires_grad=True)
    one_class = torch.randn(3, requires_grad=True)
    for loss in (
        point_loss(nothing, nothing),
        pair_loss(nothing, nothing, nothing),
        batch_pair_loss(nothing, nothing),
        batch_pair_loss(one_class, torch.ones(3)),
    ):
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == 0.0


def test_block_loss_is_that_of_loops_over_users_items_and_tasks() -> None:
    difference, free = RNG.normal(size=(5, 7, 3)), RNG.random((5, 7)) < 0.6
    free[2] = False  # a user without any
    expected = []
    for task in range(3):
        total = 0.0
        for user in range(5):
            of_user = [difference[user, item, task] for item in range(7) if free[user, item]]
            for value in of_user:
                total += (value - sum(of_user) / len(of_user)) ** 2 + 0.1 * value**2
        expected.append(total / free.sum())
    found = block_loss(torch.tensor(difference), torch.tensor(free), 0.1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_block_loss_of_no_pair_is_zero() -> None:
    none = torch.zeros(2, 3, dtype=torch.bool)
    assert block_loss(torch.ones(2, 3, 3), none, 0.1).tolist() == [0.0, 0.0, 0.0]
