"""Windows of clicks against a loop over every row."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from keep.data import Data
from keep.log import Day, Log
from keep.systems.sequences import clicks, windows
from tests.keep.tiny import tiny_days, tiny_log


def slow_clicks(data: Data, days: range) -> dict[int, list[int]]:
    """Each user's item rows, oldest first, one click at a time."""
    found: dict[int, list[int]] = defaultdict(list)
    for number in days:
        day = tiny_days()[number]
        for row in sorted(range(len(day)), key=lambda row: int(day.time[row])):
            if day.click[row]:
                user = int(data.features.users.rows(day.user[[row]])[0])
                found[user].append(int(data.features.items.rows(day.item[[row]])[0]))
    return found


def test_clicks_are_each_user_s_in_time(tmp_path: Path) -> None:
    data = Data(tiny_log(tmp_path / "log"), 5, behaviours=7)
    user, item = clicks(data, range(1, 4))
    expected = slow_clicks(data, range(1, 4))
    assert np.all(np.diff(user) >= 0)
    assert {int(u): item[user == u].tolist() for u in np.unique(user)} == expected


def test_windows_do_not_overlap_and_the_newest_is_full(tmp_path: Path) -> None:
    data = Data(tiny_log(tmp_path / "log"), 5, behaviours=7)
    found = windows(data, range(1, 4))
    expected = []
    for _, sequence in sorted(slow_clicks(data, range(1, 4)).items()):
        for end in range(len(sequence), 0, -7):
            part = sequence[max(end - 7, 0) : end]
            if len(part) > 1:
                expected.append([0] * (7 - len(part)) + part)
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert any(line[0] == 0 for line in expected)
    assert sum(line[0] != 0 for line in expected) > 20


def test_a_window_ends_as_the_behaviours_that_downstream_models_see(tmp_path: Path) -> None:
    data = Data(tiny_log(tmp_path / "log"), 5, behaviours=7)
    newest = {tuple(line) for line in windows(data, range(1, 5)).tolist() if line[0]}
    history = data.sub_domain(5).history
    full = history[history[:, 0] > 0]
    assert len(full) > 10
    assert {tuple(line) for line in full.tolist()} <= newest


def test_no_other_day_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(tiny_log(tmp_path / "log"), 5)
    read: list[int] = []
    whole = Log.day

    def spy(log: Log, number: int) -> Day:
        read.append(number)
        return whole(log, number)

    monkeypatch.setattr(Log, "day", spy)
    windows(data, (1, 2, 3))
    assert read == [1, 2, 3]


def test_no_days_give_no_windows(tmp_path: Path) -> None:
    data = Data(tiny_log(tmp_path / "log"), 5, behaviours=7)
    assert windows(data, ()).shape == (0, 7)
