"""Lifts and their intervals against a slow bootstrap, and how often they hold the truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from keep.gauc import gauc
from keep.reproduce.predictions import Predictions
from keep.reproduce.statistics import (
    UnpairedError,
    UserScores,
    gauc_per_seed,
    paired_lift,
    ratio_of_lifts,
    user_scores,
)
from tests.keep.reproduce.planted import SEEDS, ranked


def row(strength: float, seeds: tuple[int, ...] = SEEDS, users: int = 40) -> UserScores:
    return user_scores({seed: ranked(strength, seed, users) for seed in seeds})


def drawn(auc: np.ndarray, impressions: np.ndarray) -> UserScores:
    """Scores with given AUCs, of shape (seeds, users)."""
    users = np.arange(len(impressions), dtype=np.int64)
    return UserScores(users, impressions, auc, tuple(range(len(auc))), "same")


def slow_bootstrap(
    lifts: list[np.ndarray], impressions: np.ndarray, resamples: int
) -> list[list[float]]:
    """Resample users and seeds one by one; each lift is (seeds, users)."""
    rng = np.random.default_rng(5)
    seeds, users = lifts[0].shape
    found: list[list[float]] = [[] for _ in lifts]
    for _ in range(resamples):
        chosen_users = rng.integers(users, size=(users,))
        chosen_seeds = rng.integers(seeds, size=(seeds,))
        for place, lift in enumerate(lifts):
            cells = itertools.product(chosen_seeds, chosen_users)
            total = sum(float(impressions[u] * lift[s, u]) for s, u in cells)
            found[place].append(float(total / (seeds * impressions[chosen_users].sum())))
    return found


def test_gauc_of_each_seed_is_the_metric_itself() -> None:
    for seed, value in zip(SEEDS, gauc_per_seed(row(1.0)), strict=True):
        one = ranked(1.0, seed)
        np.testing.assert_allclose(value, gauc(one.user, one.label, one.score).value, rtol=1e-12)


def test_lift_is_the_mean_difference_of_gauc_paired_by_seed() -> None:
    better, base = row(1.6), row(1.0)
    lift = paired_lift(better, base)
    differences = gauc_per_seed(better) - gauc_per_seed(base)
    np.testing.assert_allclose(lift.per_seed, differences, rtol=1e-9)
    np.testing.assert_allclose(lift.mean, differences.mean(), rtol=1e-9)
    assert lift.low < lift.mean < lift.high


def test_interval_and_ratio_agree_with_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(3)
    impressions = rng.integers(5, 50, size=25)
    base = drawn(rng.uniform(0.4, 0.8, size=(3, 25)), impressions)
    whole = drawn(base.auc + 0.1 + rng.normal(0, 0.05, size=(3, 25)), impressions)
    part = drawn(base.auc + 0.08 + rng.normal(0, 0.05, size=(3, 25)), impressions)
    slow_part, slow_whole = slow_bootstrap(
        [part.auc - base.auc, whole.auc - base.auc], impressions, resamples=1500
    )
    lift = paired_lift(part, base)
    width = lift.high - lift.low
    expected = np.quantile(slow_part, [0.025, 0.975])
    np.testing.assert_allclose([lift.low, lift.high], expected, atol=0.1 * width)

    ratio = ratio_of_lifts(part, whole, base)
    np.testing.assert_allclose(
        ratio.value, paired_lift(part, base).mean / paired_lift(whole, base).mean, rtol=1e-9
    )
    shares = np.quantile(np.array(slow_part) / np.array(slow_whole), [0.025, 0.975])
    np.testing.assert_allclose([ratio.low, ratio.high], shares, atol=0.1 * (ratio.high - ratio.low))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    truth, held, draws = 0.02, 0, 100
    impressions = rng.integers(5, 50, size=120)
    for _ in range(draws):
        lifts = truth + rng.normal(0, 0.1, size=120) + rng.normal(0, 0.05, size=(5, 120))
        base = rng.uniform(0.5, 0.7, size=(5, 120))
        lift = paired_lift(drawn(base + lifts, impressions), drawn(base, impressions))
        held += lift.low <= truth <= lift.high
    assert 88 <= held <= 100


def test_users_are_the_same_for_all_seeds_so_that_equal_seeds_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(9)
    impressions = np.full(60, 10, dtype=np.int64)
    lift = np.repeat(rng.normal(0.01, 0.1, size=(1, 60)), 5, axis=0)
    base = np.full((5, 60), 0.6)
    found = paired_lift(drawn(base + lift, impressions), drawn(base, impressions))
    expected = 2 * 1.96 * lift[0].std() / math.sqrt(60)
    np.testing.assert_allclose(found.high - found.low, expected, rtol=0.1)


def test_the_same_scores_give_the_same_interval() -> None:
    assert paired_lift(row(1.6), row(1.0)) == paired_lift(row(1.6), row(1.0))


def test_a_row_against_itself_has_no_lift_at_all() -> None:
    lift = paired_lift(row(1.0), row(1.0))
    assert (lift.mean, lift.low, lift.high) == (0.0, 0.0, 0.0)


def test_a_single_score_is_paired_with_every_seed() -> None:
    oracle, base = row(3.0, seeds=(99,)), row(1.0)
    lift = paired_lift(oracle, base)
    np.testing.assert_allclose(lift.per_seed, gauc_per_seed(oracle)[0] - gauc_per_seed(base))
    assert ratio_of_lifts(base, oracle, base).value == 0.0


def test_a_share_of_no_lift_has_no_value_and_one_of_an_unsure_lift_no_interval() -> None:
    worse = ratio_of_lifts(row(1.6), row(0.5), row(1.0))
    assert all(math.isnan(value) for value in (worse.value, worse.low, worse.high))
    barely = ratio_of_lifts(row(1.6), row(1.02), row(1.0))
    assert barely.value > 1
    assert math.isnan(barely.low)


def test_seeds_that_rank_other_impressions_are_refused() -> None:
    one, other = ranked(1.0, 1), ranked(1.0, 2, users=39)
    with pytest.raises(UnpairedError, match="seeds 1 and 2 rank different"):
        user_scores({1: one, 2: other})
    flipped = Predictions(one.user, one.item, ~one.label, one.score)
    with pytest.raises(UnpairedError, match="different impressions or labels"):
        user_scores({1: one, 2: flipped})


def test_rows_of_other_impressions_or_seeds_are_refused() -> None:
    with pytest.raises(UnpairedError, match="40 and 39 users"):
        paired_lift(row(1.6), row(1.0, users=39))
    with pytest.raises(UnpairedError, match=r"different seeds: \(1, 2\) and \(1, 3\)"):
        paired_lift(row(1.6, seeds=(1, 2)), row(1.0, seeds=(1, 3)))


def test_without_users_of_both_classes_everything_is_nan() -> None:
    nobody = drawn(np.empty((2, 0)), np.empty(0, dtype=np.int64))
    assert np.isnan(gauc_per_seed(nobody)).all()
    lift = paired_lift(nobody, nobody)
    assert all(math.isnan(value) for value in (lift.mean, lift.low, lift.high, *lift.per_seed))
    assert math.isnan(ratio_of_lifts(nobody, nobody, nobody).value)
