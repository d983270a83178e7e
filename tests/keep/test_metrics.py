"""Metrics against loops in plain Python, also with ties, one class, and logits of any size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep.gauc import gauc
from keep.metrics import metrics

Row = tuple[int, bool, float]

ROWS = st.lists(
    st.tuples(st.integers(-2, 2), st.booleans(), st.sampled_from([-30.0, -0.5, 0.0, 0.5, 8.0])),
    min_size=1,
    max_size=50,
)


def columns(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users, labels, logits = zip(*rows, strict=True)
    return (
        np.array(users, dtype=np.int64),
        np.array(labels, dtype=np.bool_),
        np.array(logits, dtype=np.float32),
    )


def slow_auc(rows: list[Row]) -> float:
    """Count the pairs ranked rightly; ties count half."""
    positives = [logit for _, label, logit in rows if label]
    negatives = [logit for _, label, logit in rows if not label]
    right = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    pairs = len(positives) * len(negatives)
    return right / pairs if pairs else math.nan


@given(ROWS)
def test_equal_loops_over_the_rows(rows: list[Row]) -> None:
    found = metrics(*columns(rows))
    probabilities = [1 / (1 + math.exp(-logit)) for _, _, logit in rows]
    # Cross-entropy by the probability of the label that was observed.
    observed = [1 / (1 + math.exp(-logit if label else logit)) for _, label, logit in rows]
    clicks = sum(label for _, label, _ in rows)
    assert found.log_loss == pytest.approx(-sum(map(math.log, observed)) / len(rows))
    calibration = sum(probabilities) / clicks if clicks else math.nan
    assert found.calibration == pytest.approx(calibration, nan_ok=True)
    assert found.auc == pytest.approx(slow_auc(rows), nan_ok=True)
    assert found.positive_rate == pytest.approx(clicks / len(rows))
    assert found.impressions == len(rows)


@given(ROWS)
def test_gauc_and_its_users_are_those_of_gauc(rows: list[Row]) -> None:
    found, grouped = metrics(*columns(rows)), gauc(*columns(rows))
    assert found.gauc == pytest.approx(grouped.value, nan_ok=True)
    assert found.users == grouped.users


def test_extreme_logits_neither_overflow_nor_lose_the_loss() -> None:
    found = metrics(*columns([(1, True, 1e4), (1, False, -1e4), (1, True, -1e4), (1, False, 1e4)]))
    assert found.log_loss == pytest.approx(1e4 / 2)
    assert found.calibration == pytest.approx(1.0)
    assert found.auc == 0.5


def test_float32_logits_are_summed_in_float64() -> None:
    n = 300_000
    logits = np.full(n, -6.0, dtype=np.float32)
    labels = np.arange(n) % 400 == 0
    found = metrics(np.zeros(n, dtype=np.int64), labels, logits)
    probability = 1 / (1 + math.exp(6.0))
    assert found.calibration == pytest.approx(400 * probability, rel=1e-12)
    expected = -(math.log(probability) / 400 + 399 / 400 * math.log(1 - probability))
    assert found.log_loss == pytest.approx(expected, rel=1e-12)


def test_no_impression_is_nan_with_zero_counts() -> None:
    empty = np.empty(0, dtype=np.float32)
    found = metrics(empty.astype(np.int64), empty.astype(np.bool_), empty)
    assert (found.impressions, found.users) == (0, 0)
    values = (found.gauc, found.auc, found.log_loss, found.calibration, found.positive_rate)
    assert all(math.isnan(value) for value in values)


def test_a_nan_logit_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        metrics(*columns([(1, True, math.nan), (1, False, 0.0)]))
