"""The ranking that every other must beat: by the item's click rate."""

from __future__ import annotations

import numpy as np

from gkc.arrays import F32
from keep.log import Day, Log

SMOOTHING = 20.0
"""Impressions at the mean rate that popularity adds to every item."""


def popularity(log: Log, until: int, test: Day) -> F32:
    """Score n impressions by their item's click rate, drawn to the mean where it is rare: (n,).

    Clicks are counted up to the day ``until``.
    """
    days = list(log.days(0, until))
    items = np.concatenate([day.item for day in days])
    clicks = np.concatenate([day.click for day in days])
    known, inverse = np.unique(items, return_inverse=True)
    shown = np.bincount(inverse, minlength=len(known))
    clicked = np.bincount(inverse, weights=clicks, minlength=len(known))
    mean = clicks.mean()
    rate = (clicked + SMOOTHING * mean) / (shown + SMOOTHING)
    spot = np.minimum(np.searchsorted(known, test.item), len(known) - 1)
    scores: F32 = np.where(known[spot] == test.item, rate[spot], mean).astype(np.float32)
    return scores
