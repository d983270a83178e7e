"""Table 7's groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from keep.reproduce import groups
from keep.reproduce.groups import user_groups
from keep.reproduce.workshop import Workshop
from tests.keep.tiny import tiny_log


def test_groups_are_the_paper_s_or_quartiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tiny_log(tmp_path / "log", pretrain_until=2)
    shop = Workshop(log.path, log.path, 5)
    quartiles = user_groups(shop)
    assert len(quartiles) == 4
    assert quartiles[0][0] == 0
    assert quartiles[-1][1] == float("inf")
    monkeypatch.setattr(groups, "GROUP_USERS", 0)
    assert user_groups(shop) == ((0, 50), (50, 150), (150, 300), (300, float("inf")))
