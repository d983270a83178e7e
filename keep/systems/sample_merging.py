"""Sample Merging: Base on the impressions of all scenes together, with one head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from keep.data import Data
from keep.systems import base
from keep.systems.base import BaseRanker, fit_base, make


@dataclass(frozen=True, kw_only=True)
class Options(base.Options):
    """How the merged Base is built and trained."""

    batch_size: int = 128
    """Larger than Base's own: a day of all scenes has many times the sub-domain's rows."""


def grid(best: base.Options) -> tuple[Options, ...]:
    """List what is tried on the tuning day.

    Parameters
    ----------
    best : base.Options
        The options of Base that were found best.

    Returns
    -------
    tuple of Options
        Twelve; with no setting of its own, the method tries Base's spread of fresh embeddings.
    """
    return tuple(
        Options(
            **{**vars(best), "batch_size": batch_size, "learning_rate": rate, "embedding_std": std}
        )
        for batch_size, rate, std in product((128, 512), (0.001, 0.003), (0.01, 0.05, 0.2))
    )


def train(
    data: Data, days: Sequence[int], options: Options, seed: int, task: int = 0
) -> BaseRanker:
    """Train Base on super- and sub-domain merged.

    The sub-domain's impressions are among those of all scenes, so each is taken once.

    Parameters
    ----------
    data : Data
        The log.
    days : sequence of int
        Training days, ascending.
    options : Options
        Settings.
    seed : int
        Of initial weights and order.
    task : int
        Position in ``TASKS``: what is predicted.

    Returns
    -------
    BaseRanker
        The trained model.

    References
    ----------
    KEEP (CIKM'22), section 6.2.
    """
    model = make(data, options, seed)
    fit_base(model, data.super_domains(tuple(days)), options, seed, task)
    return BaseRanker(model)
