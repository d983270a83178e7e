"""Paired lifts of GAUC, with intervals from a bootstrap over users and seeds together.

A lift compares two rankings of the same impressions, so both the users and the seeds are paired.
A resample draws as many users as there are, with replacement and the same ones for every seed, and
as many seeds as there are, with replacement and the same ones for both rankings. With one seed the
interval knows the users' chance only; with a few, that of the seeds is somewhat understated.

Rows may have been computed in several worlds: logs of one kind, each with impressions of its own.
A lift is then the mean of the worlds' lifts. A resample draws as many worlds as there are, with
replacement, and in each one drawn anew users and seeds. Worlds also differ by the chance of their
users and seeds, which is so drawn twice: the interval is rather too wide than too narrow.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
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
SEED = 20221017


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


Worlds = Sequence[UserScores]
"""A row's scores in every world that it was computed in; a log of its own is one world."""


@dataclass(frozen=True)
class Lift:
    """How much better one row ranks than another."""

    mean: float
    """Mean over worlds and seeds of the difference in GAUC."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end."""
    per_seed: tuple[float, ...]
    """The differences, means over worlds."""


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


def gauc_per_seed(row: Worlds) -> F64:
    """Average the users' AUC by their impressions, then over worlds: (S,).

    It is NaN where no user of a world has both classes.

    References
    ----------
    KEEP (CIKM'22), equation 7.
    """
    means: F64 = _per_seed([(world.auc[None], world.impressions) for world in row])[0]
    return means


def paired_lift(row: Worlds, base: Worlds) -> Lift:
    """Compute how much better a row ranks than another, seed by seed, with a 95 % interval.

    A row of a single seed, a control without chance, is paired with every seed of the other. The
    lift is NaN where no user has both classes.

    Raises
    ------
    UnpairedError
        If their impressions, labels or seeds differ.
    """
    differences = _differences([row], base)
    return _lift(_per_seed(differences)[0], _resampled(differences)[:, 0])


def paired_lifts(rows: Mapping[str, Worlds]) -> dict[tuple[str, str], Lift]:
    """Compute how much better each row ranks than each that follows it, as ``paired_lift`` does.

    Raises
    ------
    UnpairedError
        If their impressions, labels or seeds differ.
    """
    if not rows:
        return {}
    differences = _differences(list(rows.values()), next(iter(rows.values())))
    per_seed, resampled = _per_seed(differences), _resampled(differences)
    return {
        (one, other): _lift(per_seed[i] - per_seed[j], resampled[:, i] - resampled[:, j])
        for (i, one), (j, other) in itertools.combinations(enumerate(rows), 2)
    }


def difference_of_lifts(lifted: tuple[Worlds, Worlds], other: tuple[Worlds, Worlds]) -> Lift:
    """Compute how much more one row gains over its base than another over its own.

    The two have users of their own, drawn apart; worlds and seeds are paired.

    Raises
    ------
    UnpairedError
        If impressions, labels or seeds of a row and its base differ, or the seeds of the two.
    """
    one, two = (_differences([row], base) for row, base in (lifted, other))
    here, there = _per_seed(one)[0], _per_seed(two)[0]
    if len(here) != len(there):
        raise UnpairedError(f"the rows have {len(here)} and {len(there)} seeds")
    return _lift(here - there, (_resampled(one) - _resampled(two))[:, 0])


def ratio_of_lifts(row: Worlds, reference: Worlds, base: Worlds) -> Ratio:
    """Compute which share of another row's lift a row keeps: the ratio of their mean lifts.

    Both lifts of a resample come from the same worlds, users and seeds.

    Raises
    ------
    UnpairedError
        If their impressions, labels or seeds differ.
    """
    differences = _differences([row, reference], base)
    kept, whole = _per_seed(differences).mean(axis=1)
    if not whole > 0:
        return Ratio(math.nan, math.nan, math.nan)
    resampled = _resampled(differences)
    if not (resampled[:, 1] > 0).all():
        return Ratio(float(kept / whole), math.nan, math.nan)
    return Ratio(float(kept / whole), *_interval(resampled[:, 0] / resampled[:, 1]))


def worth_its_cost(variants: Mapping[str, Worlds]) -> str:
    """Choose among variants, at least one and the cheapest first, all of the same impressions.

    A costlier one takes the place of the one that stands only if it ranks better with an interval
    of their paired difference, over users, seeds and worlds, that excludes zero.

    Raises
    ------
    UnpairedError
        If their impressions, labels or seeds differ.
    """
    chosen, *costlier = variants
    for variant in costlier:
        if paired_lift(variants[variant], variants[chosen]).low > 0:
            chosen = variant
    return chosen


def _lift(per_seed: F64, resampled: F64) -> Lift:
    return Lift(float(per_seed.mean()), *_interval(resampled), tuple(per_seed.tolist()))


_World = tuple[F64, I64]
"""Differences of K rows in a world, (K, S, U), and the users' impressions, (U,)."""


def _differences(rows: Sequence[Worlds], base: Worlds) -> list[_World]:
    """Subtract the base's AUC from each row's, after checking that they can be paired."""
    found = []
    for in_world, *ranked in zip(base, *rows, strict=True):
        differences = [_difference(row, in_world) for row in ranked]
        found.append((np.stack(np.broadcast_arrays(*differences)), in_world.impressions))
    return found


def _difference(row: UserScores, base: UserScores) -> F64:
    if row.checksum != base.checksum:
        raise UnpairedError(
            f"the rows rank different impressions or labels ({len(row.users)} and "
            f"{len(base.users)} users with both classes)"
        )
    if row.seeds != base.seeds and 1 not in (len(row.seeds), len(base.seeds)):
        raise UnpairedError(f"the rows have different seeds: {row.seeds} and {base.seeds}")
    return np.asarray(row.auc - base.auc, dtype=np.float64)


def _per_seed(worlds: Sequence[_World]) -> F64:
    """Average over users by impressions, then over worlds: (K, S)."""
    means = [
        differences @ impressions / impressions.sum()
        if len(impressions)
        else np.full(differences.shape[:-1], np.nan, dtype=np.float64)
        for differences, impressions in worlds
    ]
    return np.asarray(np.mean(means, axis=0), dtype=np.float64)


def _resampled(worlds: Sequence[_World]) -> F64:
    """Average K rows in resamples of worlds, and in each of users and seeds: (RESAMPLES, K).

    The generators' seeds are fixed: the same figures every time, and the same worlds, users and
    seeds for every row of a table.
    """
    count = len(worlds)
    drawn = np.random.default_rng([SEED, 1]).integers(count, size=(RESAMPLES, count))
    rng = np.random.default_rng(SEED)
    means = np.zeros((RESAMPLES, len(worlds[0][0])), dtype=np.float64)
    for place in range(count):
        for number, world in enumerate(worlds):
            here = np.flatnonzero(drawn[:, place] == number)
            means[here] += _resampled_world(world, len(here), *rng.spawn(2))
    return means / count


def _resampled_world(
    world: _World, size: int, users_rng: np.random.Generator, seeds_rng: np.random.Generator
) -> F64:
    """Average K rows in resamples of one world's users and seeds: (size, K)."""
    differences, impressions = world
    rows, seeds, users = differences.shape
    if not users:
        return np.full((size, rows), np.nan, dtype=np.float64)
    weighted = (differences * impressions).reshape(rows * seeds, users)
    means = np.empty((size, rows), dtype=np.float64)
    for start in range(0, size, CHUNK):
        chunk = min(CHUNK, size - start)
        drawn_users = _counts(users_rng, chunk, users)
        drawn_seeds = _counts(seeds_rng, chunk, seeds)
        lifts = drawn_users @ weighted.T / (drawn_users @ impressions)[:, None]  # (chunk, K * S)
        of_rows = lifts.reshape(chunk, rows, seeds)
        means[start : start + chunk] = np.einsum("rks,rs->rk", of_rows, drawn_seeds) / seeds
    return means


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
