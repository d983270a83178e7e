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
    Worlds,
    difference_of_lifts,
    gauc_per_seed,
    paired_lift,
    paired_lifts,
    ratio_of_lifts,
    user_scores,
    worth_its_cost,
)
from tests.keep.reproduce.planted import SEEDS, ranked


def row(strength: float, seeds: tuple[int, ...] = SEEDS, users: int = 40) -> Worlds:
    return [user_scores({seed: ranked(strength, seed, users) for seed in seeds})]


def drawn(auc: np.ndarray, impressions: np.ndarray) -> Worlds:
    """Scores in one world with given AUCs, of shape (seeds, users)."""
    users = np.arange(len(impressions), dtype=np.int64)
    return [UserScores(users, impressions, auc, tuple(range(len(auc))), "same")]


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
    auc = rng.uniform(0.4, 0.8, size=(3, 25))
    whole_lift = 0.1 + rng.normal(0, 0.05, size=(3, 25))
    part_lift = 0.08 + rng.normal(0, 0.05, size=(3, 25))
    base = drawn(auc, impressions)
    whole, part = drawn(auc + whole_lift, impressions), drawn(auc + part_lift, impressions)
    slow_part, slow_whole = slow_bootstrap([part_lift, whole_lift], impressions, resamples=1500)
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


def several(lifts: list[float], spread: float = 0.05) -> tuple[Worlds, Worlds]:
    """A row and its base in a world for each lift, of other users in each."""
    rng = np.random.default_rng(13)
    rows: list[UserScores] = []
    bases: list[UserScores] = []
    for world, lift in enumerate(lifts):
        impressions = rng.integers(5, 50, size=50 + world)
        base = rng.uniform(0.4, 0.7, size=(3, 50 + world))
        better = base + lift + rng.normal(0, spread, size=base.shape)
        rows += drawn(better, impressions)
        bases += drawn(base, impressions)
    return rows, bases


def test_a_lift_over_worlds_is_the_mean_of_theirs() -> None:
    row, base = several([0.03, 0.06])
    apart = [paired_lift([one], [other]) for one, other in zip(row, base, strict=True)]
    together = paired_lift(row, base)
    np.testing.assert_allclose(together.mean, np.mean([lift.mean for lift in apart]))
    np.testing.assert_allclose(together.per_seed, np.mean([lift.per_seed for lift in apart], 0))
    kept = ratio_of_lifts(row, row, base)
    np.testing.assert_allclose([kept.value, kept.low, kept.high], 1.0)


def test_an_interval_over_worlds_knows_how_they_differ() -> None:
    alike, differing = (paired_lift(*several(lifts)) for lifts in ([0.03] * 4, [0, 0, 0.06, 0.06]))
    apart = [paired_lift([one], [base]) for one, base in zip(*several([0.03] * 4), strict=True)]
    widths = [lift.high - lift.low for lift in apart]
    # Four worlds of the same lift: half as wide as in one, but for the chance that is seen twice.
    expected = float(np.mean(widths)) / 2 * math.sqrt(1 + 3 / 4)
    np.testing.assert_allclose(alike.high - alike.low, expected, rtol=0.2)
    spread = 2 * 1.96 * 0.03 / math.sqrt(4)
    expected = math.hypot(spread, alike.high - alike.low)
    np.testing.assert_allclose(differing.high - differing.low, expected, rtol=0.2)


def test_all_pairs_of_a_table_are_what_each_pair_is() -> None:
    rows = {"a": row(1.0), "b": row(1.4), "c": row(3.0, seeds=(99,))}
    found = paired_lifts(rows)
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    for (one, other), lift in found.items():
        alone = paired_lift(rows[one], rows[other])
        np.testing.assert_allclose(
            [lift.mean, lift.low, lift.high], [alone.mean, alone.low, alone.high]
        )


def test_gains_of_other_users_are_compared_with_seeds_paired() -> None:
    rng = np.random.default_rng(17)
    noise = rng.normal(0, 0.1, size=(3, 1))  # a seed lifts both groups alike
    groups = []
    for users, lift in ((60, 0.05), (80, 0.01)):
        base = rng.uniform(0.4, 0.7, size=(3, users))
        impressions = np.full(users, 10, dtype=np.int64)
        better = base + lift + noise + rng.normal(0, 0.02, size=base.shape)
        groups.append((drawn(better, impressions), drawn(base, impressions)))
    first, last = groups
    more = difference_of_lifts(first, last)
    gains = [paired_lift(*group).mean for group in groups]
    np.testing.assert_allclose(more.mean, gains[0] - gains[1])
    assert 0.02 < more.low < more.high < 0.06
    with pytest.raises(UnpairedError, match="3 and 1 seeds"):
        difference_of_lifts(first, (row(1.0, seeds=(1,)), row(0.5, seeds=(1,))))


def test_a_costlier_variant_is_chosen_only_if_it_is_surely_better() -> None:
    better, base = several([0.03, 0.03])
    unsure, _ = several([0.0, 0.0])
    assert paired_lift(unsure, base).low < 0
    assert worth_its_cost({"cheap": base, "unsure": unsure, "better": better}) == "better"
    assert worth_its_cost({"cheap": base, "unsure": unsure}) == "cheap"
    assert worth_its_cost({"cheap": better, "dear": base}) == "cheap"


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
