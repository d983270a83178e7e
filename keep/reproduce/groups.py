"""Table 7's groups of users: by super-domain clicks, and by sub-domain impressions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gkc.arrays import I64, Bools
from keep.gauc import user_aucs
from keep.log import Day
from keep.reproduce.workshop import Workshop

GROUP_LIMITS = (0.0, 50.0, 150.0, 300.0, float("inf"))
"""Table 7's bounds in the paper, clicks of a user in the super-domain."""
GROUP_USERS = 300
"""Users that a group must have at least."""

CLICKS, IMPRESSIONS = "super-domain clicks", "sub-domain impressions"
COUNTED: Mapping[str, Callable[[Day], Bools]] = {
    CLICKS: lambda day: day.click,
    IMPRESSIONS: lambda day: day.sub_domain,
}
"""By what users are grouped: the impressions of a day, (n,) bool, that are counted. The paper has
the first; the second says how little a downstream model has seen of them."""


@dataclass(frozen=True)
class Group:
    """Users with a count from ``low`` to below ``high``."""

    counted: str
    """What is counted, a name in ``COUNTED``."""
    low: float
    high: float

    @property
    def name(self) -> str:
        """Name the group as the paper does, with what is counted where that is not the paper's."""
        span = (
            f">{self.low:.0f}" if self.high == float("inf") else f"{self.low:.0f}-{self.high:.0f}"
        )
        return span if self.counted == CLICKS else f"{span} {self.counted}"

    def members(self, shop: Workshop, users: I64) -> Bools:
        """Tell which of some users, (n,) raw ids, belong to it: (n,)."""
        counts = _counts(shop, self.counted, users)
        return (counts >= self.low) & (counts < self.high)


def user_groups(shop: Workshop) -> tuple[Group, ...]:
    """Choose the groups: at the paper's limits, or quartiles where there would be a small group.

    Of the test day, only which users have both classes is looked at.
    """
    test = shop.data(shop.log.info.test_day).sub_domain(shop.log.info.test_day)
    users, _, _ = user_aucs(test.day.user, test.day.click, np.zeros(len(test), np.float32))
    return tuple(
        Group(counted, low, high)
        for counted in COUNTED
        for low, high in itertools.pairwise(_limits(counted, _counts(shop, counted, users)))
    )


def _limits(counted: str, counts: I64) -> Sequence[float]:
    if counted == CLICKS and np.histogram(counts, GROUP_LIMITS)[0].min() >= GROUP_USERS:
        return GROUP_LIMITS
    quartiles = np.unique(np.ceil(np.quantile(counts, (0.25, 0.5, 0.75))))
    return (0.0, *quartiles[quartiles > 0].tolist(), float("inf"))


def _counts(shop: Workshop, counted: str, users: I64) -> I64:
    """Count for users, (n,) raw ids, up to the version's day."""
    data = shop.data(shop.log.info.test_day)
    counts = np.zeros(data.sizes.users, dtype=np.int64)
    for number in data.days:
        if number <= shop.version_day:
            day = shop.log.day(number)
            rows = data.features.users.rows(day.user[COUNTED[counted](day)])
            counts += np.bincount(rows, minlength=len(counts))
    return counts[data.features.users.rows(users)]
