"""GAUC against a per-user loop over all pairs (equation 7)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep.gauc import gauc, user_aucs


def slow_aucs(rows: list[tuple[int, bool, float]]) -> dict[int, tuple[int, float]]:
    """Count, for each user with both classes, the pairs ranked rightly; ties count half."""
    found = {}
    for user in sorted({row[0] for row in rows}):
        positives = [score for owner, label, score in rows if owner == user and label]
        negatives = [score for owner, label, score in rows if owner == user and not label]
        if positives and negatives:
            right = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
            impressions = len(positives) + len(negatives)
            found[user] = impressions, right / (len(positives) * len(negatives))
    return found


def slow_gauc(rows: list[tuple[int, bool, float]]) -> tuple[float, int, int]:
    """Weight the users' AUC by their impressions."""
    users = slow_aucs(rows)
    weight = sum(impressions for impressions, _ in users.values())
    total = sum(impressions * auc for impressions, auc in users.values())
    left_out = len({row[0] for row in rows}) - len(users)
    return (total / weight if weight else math.nan), weight, left_out


ROWS = st.lists(
    st.tuples(st.integers(-3, 3), st.booleans(), st.sampled_from([-1.5, 0.0, 0.25, 0.5, 7.0])),
    min_size=1,
    max_size=60,
)


@given(ROWS)
def test_equals_the_naive_loop_also_with_ties(rows: list[tuple[int, bool, float]]) -> None:
    users, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    found = gauc(users, labels, scores)
    value, impressions, left_out = slow_gauc(rows)
    np.testing.assert_allclose(found.value, value, rtol=1e-12)
    assert (found.impressions, found.users_left_out) == (impressions, left_out)
    assert found.users + found.users_left_out == len(set(users.tolist()))
    np.testing.assert_allclose(found.positive_rate, labels.mean())


@given(ROWS)
def test_each_user_s_auc_equals_the_naive_loop(rows: list[tuple[int, bool, float]]) -> None:
    users, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    found, impressions, auc = user_aucs(users, labels, scores)
    expected = slow_aucs(rows)
    assert found.tolist() == list(expected)
    assert impressions.tolist() == [count for count, _ in expected.values()]
    np.testing.assert_allclose(auc, [value for _, value in expected.values()], rtol=1e-12)
    assert impressions.dtype == np.int64
    assert auc.dtype == np.float64


@given(ROWS)
def test_is_unchanged_by_a_monotone_map_of_the_scores(
    rows: list[tuple[int, bool, float]],
) -> None:
    users, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    assert gauc(users, labels, np.exp(scores) * 3 - 1) == pytest.approx(
        gauc(users, labels, scores), nan_ok=True
    ) or math.isnan(gauc(users, labels, scores).value)


def test_nothing_at_all_is_nan() -> None:
    empty = np.empty(0)
    found = gauc(empty.astype(np.int64), empty.astype(np.bool_), empty)
    assert math.isnan(found.value)
    assert found.users == found.users_left_out == 0
    assert math.isnan(found.positive_rate)


def test_a_nan_score_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        gauc(np.array([1, 1]), np.array([True, False]), np.array([0.0, np.nan]))


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="length: 2, 1, 2"):
        gauc(np.array([1, 1]), np.array([True]), np.array([0.0, 1.0]))
