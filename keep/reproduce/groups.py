"""Table 7's groups of users, by their clicks in the super-domain."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from gkc.arrays import I64
from keep.gauc import user_aucs
from keep.reproduce.workshop import Workshop

GROUP_LIMITS = (0.0, 50.0, 150.0, 300.0, float("inf"))
"""Table 7's bounds in the paper, clicks of a user in the super-domain."""
GROUP_USERS = 300
"""Users that a group must have at least."""


def user_groups(shop: Workshop) -> tuple[tuple[float, float], ...]:
    """Choose table 7's groups: the paper's limits, or quartiles where a group would be too small.

    A group has its lowest number of super-domain clicks, and the first number beyond it. Of the
    test day, only which users have both classes is looked at.
    """
    test = shop.data(shop.log.info.test_day).sub_domain(shop.log.info.test_day)
    users, _, _ = user_aucs(test.day.user, test.day.click, np.zeros(len(test), np.float32))
    clicks = super_domain_clicks(shop, users)
    counts, _ = np.histogram(clicks, GROUP_LIMITS)
    limits: Sequence[float] = GROUP_LIMITS
    if counts.min() < GROUP_USERS:
        quartiles = np.unique(np.ceil(np.quantile(clicks, (0.25, 0.5, 0.75))))
        limits = (0.0, *quartiles[quartiles > 0].tolist(), float("inf"))
    return tuple(itertools.pairwise(limits))


def super_domain_clicks(shop: Workshop, users: I64) -> I64:
    """Count the clicks of users, (n,) raw ids, in the super-domain up to the version's day."""
    data = shop.data(shop.log.info.test_day)
    counts = np.zeros(data.sizes.users, dtype=np.int64)
    for number in data.days:
        if number <= shop.version_day:
            day = shop.log.day(number)
            rows = data.features.users.rows(day.user[day.click])
            counts += np.bincount(rows, minlength=len(counts))
    return counts[data.features.users.rows(users)]
