"""The item click rate, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keep.popularity import SMOOTHING, popularity
from tests.keep.tiny import tiny_log


def test_popularity_is_the_smoothed_click_rate_of_the_days_given(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log")
    test = log.day(5)
    scores = popularity(log, 2, test)
    days = [log.day(1), log.day(2)]
    items = np.concatenate([day.item for day in days])
    clicks = np.concatenate([day.click for day in days])
    for row in range(0, len(test), 37):
        mine = clicks[items == test.item[row]]
        expected = (mine.sum() + SMOOTHING * clicks.mean()) / (len(mine) + SMOOTHING)
        assert scores[row] == pytest.approx(expected, rel=1e-6)
