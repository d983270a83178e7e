"""Versions that disagree: linear maps from a new version's vectors to an old one's axes.

Two pretrainings with other seeds, or one gone on with for some days, put the same users and items
at other places. A downstream model trained on one version misreads the other. A ridge regression
from the new vectors to the old ones, folded into the exported models, lets the new version be
read in the old axes. ``user_item`` is computed after mapping: a product is not invariant to
rotations, so the map must hit the old axes, not merely keep distances.

KEEP (CIKM'22) leaves this open (section 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gkc.arrays import F32, F64, I64, Bools
from keep.checkpoint import Pretraining, require_ids
from keep.errors import ProblemError
from keep.knowledge import student_vectors, tasks_told
from keep.log import Log

SAMPLE = 200_000
"""Users, items and pairs that a map is fitted on, at most."""
HELD_OUT = 0.2
"""Share of them that is kept from the fit, to measure the error."""


METHOD = "ridge"
"""How maps are fitted, as manifest and card say it."""
RIDGE = 0.1
"""Strength that ``keep bundle --compatible-with`` fits with; chosen by GAUC, not by error."""
SHARED_AT_LEAST = 20
"""Fewest shared users, items and pairs that a map is fitted on."""


class IncompatibleError(ProblemError):
    """A version that another cannot be mapped to."""

    kind = "checkpoint "

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, f"{problem}; leave out --compatible-with or name another")


@dataclass(frozen=True)
class LinearMap:
    """y = W x + b, from new vectors to old axes."""

    weight: F32
    """(d_old, d_new) W."""
    bias: F32
    """(d_old,) b."""

    def __call__(self, vectors: F32) -> F32:
        """Map vectors, shape (n, d_new), to shape (n, d_old), float32."""
        return vectors @ self.weight.T + self.bias

    def as_layer(self) -> nn.Linear:
        """Make a layer of it, as it is appended to an exported model."""
        layer = nn.Linear(self.weight.shape[1], self.weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight))
            layer.bias.copy_(torch.from_numpy(self.bias))
        return layer


Maps = Mapping[str, LinearMap]
"""A map for each of ``keep.knowledge.STORED_PARTS``."""


def fit_map(new: F32, old: F32, weight: F64, ridge: float) -> LinearMap:
    """Fit old = W new + b by weighted ridge regression.

    Parameters
    ----------
    new, old : ndarray, shapes (n, d_new) and (n, d_old), float32
        Vectors of the same ids in both versions.
    weight : ndarray, shape (n,), float64
        How often each id is asked for.
    ridge : float
        Strength, as a share of the new vectors' mean variance.

    Returns
    -------
    LinearMap
        Minimises sum w |W new + b - old|^2 + ridge * variance * |W|^2; b is not shrunk.
    """
    share = (weight / weight.sum())[:, None]
    x, y = new.astype(np.float64), old.astype(np.float64)
    mean_x, mean_y = (share * x).sum(axis=0), (share * y).sum(axis=0)
    x, y = x - mean_x, y - mean_y
    covariance = (share * x).T @ x  # (d_new, d_new)
    shrink = max(ridge * np.trace(covariance) / len(covariance), 1e-12)
    solved = np.linalg.solve(covariance + shrink * np.eye(len(covariance)), (share * x).T @ y)
    bias = mean_y - mean_x @ solved
    return LinearMap(solved.T.astype(np.float32), bias.astype(np.float32))


@dataclass(frozen=True)
class Shared:
    """Vectors of ids that two versions share, and how often each is asked for."""

    new: F32
    old: F32
    weight: F64

    def split(self, rng: np.random.Generator) -> tuple[Shared, Shared]:
        """Draw what the fit sees, and what is held out from it."""
        held = rng.random(len(self.weight)) < HELD_OUT
        return self._where(~held), self._where(held)

    def _where(self, chosen: Bools) -> Shared:
        return Shared(self.new[chosen], self.old[chosen], self.weight[chosen])


def shared_vectors(new: Pretraining, old: Pretraining, log: Log) -> dict[str, Shared]:
    """Read, part by part, the vectors that both versions have, as each of them exports them.

    Impressions of the log up to the old version's day tell how often an id is asked for; pairs are
    those of the log that both export.
    """
    pairs = _asked_for(log, old.day)
    shared = {}
    for part, (users, items, categories, weight) in pairs.items():
        (ours, exported), (theirs, exported_before) = (
            student_vectors(state, part, users, items, categories) for state in (new, old)
        )
        both = exported & exported_before
        shared[part] = Shared(ours[both], theirs[both], weight[both])
    return shared


def fit_maps(shared: Mapping[str, Shared], ridge: float) -> dict[str, LinearMap]:
    """Fit a map for each part."""
    return {
        part: fit_map(vectors.new, vectors.old, vectors.weight, ridge)
        for part, vectors in shared.items()
    }


@dataclass(frozen=True)
class Compatibility:
    """An older version whose axes a newer one is exported in."""

    checkpoint: str
    """Name of the older version's checkpoint."""
    day: int
    """Its last day."""
    maps: Maps
    relative_error: Mapping[str, float]
    """As ``relative_errors`` measures it."""
    vector_space: str | None
    """The older version's, which mapped vectors are of; None where they miss it altogether."""
    tasks: Mapping[str, object]
    """What the older version's manifest tells of the tasks: products are of its axes."""

    def as_json(self) -> dict[str, object]:
        """Say it as a bundle's manifest does."""
        return {
            "checkpoint": self.checkpoint,
            "day": self.day,
            "method": METHOD,
            "relative_error": {
                part: round(error, 6) for part, error in self.relative_error.items()
            },
        }


def compatibility(new: Pretraining, old: Pretraining, name: str, log: Log) -> Compatibility:
    """Fit the maps that put a version into an older one's axes, and measure them on other ids.

    Raises
    ------
    IncompatibleError
        If the versions differ in width, or share too few ids to fit and measure a map.
    OtherIdsError
        If the log's ids are not of the types of those that both were pretrained on.
    """
    for state in (new, old):
        require_ids(state, log)
    widths = [(state.config.dim, state.config.category_dim) for state in (new, old)]
    if widths[0] != widths[1]:
        raise IncompatibleError(name, f"is {widths[1]} wide, the new version {widths[0]}")
    shared = shared_vectors(new, old, log)
    for part, vectors in shared.items():
        if len(vectors.weight) < SHARED_AT_LEAST:
            raise IncompatibleError(name, f"shares only {len(vectors.weight)} ids of {part}")
    errors = relative_errors(shared, RIDGE)
    # From an error of 1 on, mapped vectors tell less of the old ones than their mean does.
    space = old.vector_space if max(errors.values()) < 1 else None
    maps = fit_maps(shared, RIDGE)
    return Compatibility(name, old.day, maps, errors, space, tasks_told(old))


def relative_errors(shared: Mapping[str, Shared], ridge: float, seed: int = 0) -> dict[str, float]:
    """Measure maps, part by part, on ids that they were not fitted on.

    The error is the root of sum w |mapped - old|^2 / sum w |old - mean|^2: 0 is exact, 1 is what
    the mean alone does. ``user_item`` is that of a user with an item drawn by chance.
    """
    rng = np.random.default_rng(seed)
    errors, mapped, true = {}, {}, {}
    for part, vectors in shared.items():
        fitted, held = vectors.split(rng)
        mapped[part] = fit_map(fitted.new, fitted.old, fitted.weight, ridge)(held.new)
        true[part] = held.old
        errors[part] = _relative(mapped[part], held.old, held.weight)
    rows = min(len(true["user"]), SAMPLE)
    user = rng.integers(len(true["user"]), size=rows)
    item = rng.integers(len(true["item"]), size=rows)
    errors["user_item"] = _relative(
        mapped["user"][user] * mapped["item"][item],
        true["user"][user] * true["item"][item],
        np.ones(rows),
    )
    return errors


def _relative(mapped: F32, true: F32, weight: F64) -> float:
    share = (weight / weight.sum())[:, None]
    mean = (share * true).sum(axis=0)
    wrong = (share * (mapped - true) ** 2).sum()
    spread = (share * (true - mean) ** 2).sum()
    return float(np.sqrt(wrong / max(spread, 1e-30)))


def _asked_for(log: Log, until: int) -> dict[str, tuple[I64, I64, I64, F64]]:
    """List users, items and user-category pairs of the log up to a day, with their impressions.

    Each part comes as (n,) users, items and categories, of which it uses its own.
    """
    days = list(log.days(0, until))
    user = np.concatenate([day.user for day in days])
    item = np.concatenate([day.item for day in days])
    category = np.concatenate([day.category for day in days])
    asked_for = {}
    columns = {"user": user[:, None], "item": item[:, None]}
    columns["user_category"] = np.stack([user, category], axis=1)
    rng = np.random.default_rng(0)
    for part, keys in columns.items():
        _, first, count = np.unique(keys, axis=0, return_index=True, return_counts=True)
        if len(first) > SAMPLE:
            drawn = np.sort(rng.choice(len(first), SAMPLE, replace=False))
            first, count = first[drawn], count[drawn]
        asked_for[part] = (user[first], item[first], category[first], count.astype(np.float64))
    return asked_for
