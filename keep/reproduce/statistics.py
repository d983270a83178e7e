"""Paired lifts of GAUC, with intervals from a bootstrap over users and seeds together.

A lift compares two rankings of the same impressions, so both the users and the seeds are paired.
A resample draws as many users as there are, with replacement and the same ones for every seed, and
as many seeds as there are, with replacement and the same ones for both rankings. With one seed the
interval knows the users' chance only; with a few, that of the seeds is somewhat understated.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gkc.arrays import F64, I64
from keep.gauc import user_aucs
from keep.reproduce.predictions import Predictions

RESAMPLES = 2000
LEVEL = 0.95
CHUNK = 100
"""Resamples in memory at a time."""


class UnpairedError(ValueError):
    """Two rankings that cannot be paired: of other impressions, or of other seeds."""


@dataclass(frozen=True)
class UserScores:
    """Each user's AUC under one row of a table, for the users who have both classes."""

    users: I64
    """(U,) int64, ascending."""
    impressions: I64
    """(U,) int64, how many each user has: the weight of the user's AUC."""
    auc: F64
    """(S, U) float64, one line per seed."""
    seeds: tuple[int, ...]
    """The S seeds."""
    checksum: str
    """SHA-256 of the ranked impressions and their labels, in their order."""


@dataclass(frozen=True)
class Lift:
    """How much better one row ranks than another."""

    mean: float
    """Mean over seeds of the difference in GAUC."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end."""
    per_seed: tuple[float, ...]
    """The differences."""


@dataclass(frozen=True)
class Ratio:
    """A row's lift as a share of another row's."""

    value: float
    """Ratio of the mean lifts; NaN where the other's is not above zero."""
    low: float
    """Lower end of the 95 % interval; NaN where the other is not above zero in every resample."""
    high: float
    """Upper end; NaN likewise."""


def user_scores(predictions: Mapping[int, Predictions]) -> UserScores:
    """Compute each user's AUC under every seed, at least one, of a row.

    Raises
    ------
    UnpairedError
        If the seeds did not rank the same impressions with the same labels.

    References
    ----------
    KEEP (CIKM'22), equation 7.
    """
    checksums = {seed: _checksum(ranked) for seed, ranked in predictions.items()}
    first = next(iter(checksums))
    for seed, checksum in checksums.items():
        if checksum != checksums[first]:
            raise UnpairedError(f"seeds {first} and {seed} rank different impressions or labels")
    aucs = [user_aucs(p.user, p.label, p.score) for p in predictions.values()]
    users, impressions, _ = aucs[0]
    auc = np.stack([auc for _, _, auc in aucs])
    return UserScores(users, impressions, auc, tuple(predictions), checksums[first])


def gauc_per_seed(row: UserScores) -> F64:
    """Average the users' AUC by their impressions, (S,); NaN where no user has both classes.

    References
    ----------
    KEEP (CIKM'22), equation 7.
    """
    return _means(row.auc, row.impressions)


def paired_lift(row: UserScores, base: UserScores) -> Lift:
    """Compute how much better a row ranks than another, seed by seed, with a 95 % interval.

    A row of a single seed, a control without chance, is paired with every seed of the other. The
    lift is NaN where no user has both classes.

    Raises
    ------
    UnpairedError
        If their impressions, labels or seeds differ.
    """
    differences = _differences(row, base)
    means = _means(differences, base.impressions)
    lifts = np.concatenate(list(_resampled(differences[None], base.impressions)))[:, 0]
    low, high = _interval(lifts)
    return Lift(float(means.mean()), low, high, tuple(means.tolist()))


def ratio_of_lifts(row: UserScores, reference: UserScores, base: UserScores) -> Ratio:
    """Compute which share of another row's lift a row keeps: the ratio of their mean lifts.

    Both lifts of a resample come from the same users and seeds.

    Raises
    ------
    UnpairedError
        If their impressions, labels or seeds differ.
    """
    lifts = _differences(row, base), _differences(reference, base)
    differences = np.stack(np.broadcast_arrays(*lifts))
    kept, whole = _means(differences, base.impressions).mean(axis=1)
    if not whole > 0:
        return Ratio(math.nan, math.nan, math.nan)
    resampled = np.concatenate(list(_resampled(differences, base.impressions)))
    if not (resampled[:, 1] > 0).all():
        return Ratio(float(kept / whole), math.nan, math.nan)
    return Ratio(float(kept / whole), *_interval(resampled[:, 0] / resampled[:, 1]))


def _differences(row: UserScores, base: UserScores) -> F64:
    """Subtract the users' AUC: (S, U), after checking that the two can be paired."""
    if row.checksum != base.checksum:
        raise UnpairedError(
            f"the rows rank different impressions or labels ({len(row.users)} and "
            f"{len(base.users)} users with both classes)"
        )
    if row.seeds != base.seeds and 1 not in (len(row.seeds), len(base.seeds)):
        raise UnpairedError(f"the rows have different seeds: {row.seeds} and {base.seeds}")
    return np.asarray(row.auc - base.auc, dtype=np.float64)


def _means(differences: F64, impressions: I64) -> F64:
    """Average (..., S, U) over users by impressions: (..., S)."""
    if not len(impressions):
        return np.full(differences.shape[:-1], np.nan, dtype=np.float64)
    return np.asarray(differences @ impressions / impressions.sum(), dtype=np.float64)


def _resampled(differences: F64, impressions: I64) -> Iterator[F64]:
    """Yield the mean lifts of K rows, (chunk, K), in resamples of users and seeds.

    ``differences`` is (K, S, U). The generator's seed is fixed: the same figures every time, and
    the same users for every row of a table.
    """
    users_rng, seeds_rng = np.random.default_rng(20221017).spawn(2)
    rows, seeds, users = differences.shape
    weighted = (differences * impressions).reshape(rows * seeds, users)
    for start in range(0, RESAMPLES, CHUNK):
        size = min(CHUNK, RESAMPLES - start)
        if not users:
            yield np.full((size, rows), np.nan, dtype=np.float64)
            continue
        drawn_users = _counts(users_rng, size, users)
        drawn_seeds = _counts(seeds_rng, size, seeds)
        lifts = drawn_users @ weighted.T / (drawn_users @ impressions)[:, None]  # (size, K * S)
        yield np.einsum("rks,rs->rk", lifts.reshape(size, rows, seeds), drawn_seeds) / seeds


def _counts(rng: np.random.Generator, size: int, n: int) -> F64:
    """Draw n of n with replacement, ``size`` times, and count how often each came: (size, n)."""
    drawn = rng.integers(n, size=(size, n)) + n * np.arange(size, dtype=np.int64)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _interval(values: F64) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _checksum(predictions: Predictions) -> str:
    columns: tuple[NDArray[Any], ...] = (predictions.user, predictions.item, predictions.label)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()
