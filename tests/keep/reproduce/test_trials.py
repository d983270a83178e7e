"""What trials found."""

from __future__ import annotations

from pathlib import Path

from keep.atomic import write_json
from keep.reproduce.jobs import Trial
from keep.reproduce.trials import best_options, gaucs, trial_log
from keep.systems.base import Options


def done(out: Path, method: str, index: int, seed: int, gauc: float) -> Trial:
    trial = Trial(method, "keep", index, Options(), seed)
    values = {"method": method, "options": {"n": index}, "seed": seed, "day": 9, "gauc": gauc}
    file = trial.file(out)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, values)
    return trial


def test_the_options_of_the_highest_mean_are_the_best(tmp_path: Path) -> None:
    scores = ((0, 1, 0.6), (0, 2, 0.7), (1, 1, 0.9), (1, 2, 0.3))
    trials = [done(tmp_path, "keep", *score) for score in scores]
    waiting = Trial("keep", "keep", 2, Options(), 1)
    assert gaucs(tmp_path, [*trials, waiting]) == [0.6, 0.7, 0.9, 0.3]
    assert best_options(tmp_path, trials) == {"n": 0}


def test_the_log_has_each_options_once_and_variants_by_name(tmp_path: Path) -> None:
    trials = [done(tmp_path, "keep, both", 0, seed, 0.6) for seed in (1, 2)]
    trials.append(done(tmp_path, "variant x, both", 0, 1, 0.5))
    log = trial_log(tmp_path, "keep", trials)
    assert [entry["options"] for entry in log] == [{"n": 0}, "variant x, both"]
    assert [entry["gauc"] for entry in log] == [{"1": 0.6, "2": 0.6}, {"1": 0.5}]
    assert {(entry["method"], entry["day"]) for entry in log} == {("keep", 9)}
