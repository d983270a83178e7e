"""The whole measurement of drift on a tiny log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from keep.drift.measures import LAGS, STRENGTHS, settings
from keep.gauc import gauc
from keep.log import Log, open_log
from keep.recipes.drift import drift
from keep.reproduce.pool import ReproductionError
from keep.reproduce.predictions import read_predictions
from keep.sources.simulator import SimulatorConfig, simulate


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    path = tmp_path_factory.mktemp("log") / "log"
    config = SimulatorConfig(
        users=60, items=50, categories=6, shops=8, days=9, impressions_per_day=600
    )
    simulate(config, 1, path, lambda amount: None)
    return open_log(path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_way_is_measured_at_every_lag_and_nothing_twice(log: Log, tmp_path: Path) -> None:
    results = drift(log.path, tmp_path, seeds=1)
    assert json.loads((tmp_path / "results.json").read_text())["lags"] == results["lags"]
    assert set(results["chosen"]) == set(STRENGTHS)
    assert {trial["day"] for trial in results["trials"]} == {8}
    assert set(results["lags"]) == {str(lag) for lag in LAGS}
    for rows in results["lags"].values():
        names = [row["name"] for row in rows]
        assert names == ["no knowledge", "stale", *STRENGTHS]
        stale = rows[1]
        assert stale["cost"] == 0
        for row in rows[2:]:
            assert row["cost"] == pytest.approx(stale["gauc"][0] - row["gauc"][0], abs=2e-6)
            assert ("relative_error" in row) == row["name"].endswith("ridge map")
    [file] = (tmp_path / "work" / "testing" / "stale-0" / "0").glob("*.parquet")
    found = read_predictions(file)
    day = log.day(9)
    assert np.array_equal(found.user, day.user[day.sub_domain])
    value = gauc(found.user, found.label, found.score).value
    assert results["lags"]["1"][1]["gauc"] == [pytest.approx(value, abs=1e-6)]
    assert "## k = 3" in (tmp_path / "report.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.parquet")}
    again = drift(log.path, tmp_path, seeds=1)
    assert again["lags"] == results["lags"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_no_version_has_learned_a_training_day() -> None:
    at = settings(range(1, 22), (19, 20), 18)
    assert (at["testing"].version, at["testing"].train_days) == (15, (19, 20))
    assert (at["choosing"].version, at["choosing"].train_days) == (14, (18, 19))
    for one in at.values():
        assert one.version + LAGS[-1] < one.train_days[0]
        assert one.train_days[-1] < one.test_day


def test_a_log_that_is_too_short_is_refused() -> None:
    with pytest.raises(ReproductionError, match="needs 5 days"):
        settings(range(1, 8), (5, 6), 4)
