"""The oracle is paired with every run that ranks clicks."""

from __future__ import annotations

from pathlib import Path

import pytest

from keep.log import LogInfo
from keep.reproduce import jobs
from keep.reproduce.oracle import oracle_over_others
from keep.reproduce.plan import make_plan, runs_of
from keep.reproduce.predictions import write_predictions
from keep.reproduce.statistics import paired_lift, user_scores
from tests.keep.reproduce.planted import ranked
from tests.keep.tiny import tiny_log

SEEDS = (1, 2)


@pytest.fixture
def info(tmp_path: Path) -> LogInfo:
    return tiny_log(tmp_path / "log").info


def test_the_oracle_is_compared_with_every_run_of_clicks(info: LogInfo, tmp_path: Path) -> None:
    entries = make_plan(info, ("2", "5"), (), with_truth=True)
    for number, run in enumerate(runs_of(entries)):
        strength = 9.0 if run.system == "oracle" else 0.1 * number
        for seed in SEEDS if run.has_seed else SEEDS[:1]:
            found = ranked(strength, seed)
            path = jobs.Test(run, seed).file(tmp_path)
            write_predictions(path, found.user, found.item, found.label, found.score)
    compared = {each["over"]: each for each in oracle_over_others(tmp_path, entries, SEEDS)}
    clicks = {run.name for run in runs_of(entries) if run.task == 0}
    assert set(compared) == clicks - {"oracle.training.click"}
    base = compared["base.training.click"]
    expected = paired_lift(
        [user_scores({1: ranked(9.0, 1)})],
        [user_scores({seed: ranked(0.0, seed) for seed in SEEDS})],
    )
    assert base["lift"] == pytest.approx(expected.mean, abs=1e-6)
    assert base["interval"] == pytest.approx([expected.low, expected.high], abs=1e-6)
    assert all(each["interval"][0] > 0 for each in compared.values())


def test_without_an_oracle_there_is_nothing_to_compare(info: LogInfo, tmp_path: Path) -> None:
    entries = make_plan(info, ("2",), (), with_truth=False)
    assert oracle_over_others(tmp_path, entries, SEEDS) == []
