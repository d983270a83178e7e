"""Table 7's groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keep.reproduce import groups
from keep.reproduce.groups import CLICKS, IMPRESSIONS, Group, user_groups
from keep.reproduce.workshop import Workshop
from tests.keep.tiny import tiny_log


def bounds(shop: Workshop, counted: str) -> list[tuple[float, float]]:
    return [(group.low, group.high) for group in user_groups(shop) if group.counted == counted]


def test_groups_are_the_paper_s_or_quartiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tiny_log(tmp_path / "log", pretrain_until=2)
    shop = Workshop(log.path, log.path, 5)
    quartiles = {counted: bounds(shop, counted) for counted in (CLICKS, IMPRESSIONS)}
    for found in quartiles.values():
        assert len(found) == 4
        assert found[0][0] == 0
        assert found[-1][1] == float("inf")
    monkeypatch.setattr(groups, "GROUP_USERS", 0)
    assert bounds(shop, CLICKS) == [(0, 50), (50, 150), (150, 300), (300, float("inf"))]
    assert bounds(shop, IMPRESSIONS) == quartiles[IMPRESSIONS]


def test_members_are_counted_up_to_the_version_s_day(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log", pretrain_until=2)
    shop = Workshop(log.path, log.path, 5)
    days = list(log.days(1, 2))
    users = np.unique(np.concatenate([day.user for day in days]))
    seen = np.concatenate([day.user[day.sub_domain] for day in days])
    counts = np.array([np.count_nonzero(seen == user) for user in users])
    few = Group(IMPRESSIONS, 0, 9)
    assert 0 < np.count_nonzero(counts < 9) < len(users)
    np.testing.assert_array_equal(few.members(shop, users), counts < 9)
    assert few.name == "0-9 sub-domain impressions"
    assert Group(CLICKS, 300, float("inf")).name == ">300"
