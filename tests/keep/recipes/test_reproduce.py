"""The whole reproduction on a tiny log: every table, resumed, and blind to the test labels."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keep.gauc import gauc
from keep.log import Log
from keep.recipes.reproduce import reproduce
from keep.reproduce.paper import TABLES
from keep.reproduce.pool import ReproductionError
from keep.reproduce.predictions import read_predictions
from keep.reproduce.presets import PRESETS, WEIGHTINGS
from keep.reproduce.registration import LEDGER_FILE, read_ledger, read_plan
from keep.reproduce.results import has_collapsed
from keep.reproduce.workshop import Workshop, WorkshopError
from keep.systems.base import BASE
from tests.keep.tiny import DAYS, tiny_log

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


DRAFT = Path(__file__).parents[3] / "docs" / "reproduction" / "plan.draft.json"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return tiny_log(tmp_path_factory.mktemp("log") / "log", pretrain_until=2)


@pytest.fixture(scope="module")
def done(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reproduction")
    reproduce(log.path, out, TABLES, "small", seeds=2)
    return out


def results(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return values


def test_every_row_has_a_gauc_of_each_seed_that_its_predictions_give(done: Path, log: Log) -> None:
    tables = results(done)["tables"]
    assert tuple(tables) == TABLES
    day = log.day(DAYS)
    for number, table in tables.items():
        for row in table["rows"]:
            folders = [
                folder
                for folder in (done / "predictions" / number).iterdir()
                if np.isclose(
                    _gauc(folder / "1.parquet"), row["gauc"][0], atol=1e-6, equal_nan=True
                )
            ]
            assert folders, (number, row["name"])
    found = read_predictions(next((done / "predictions" / "2").glob("keep/1.parquet")))
    assert np.array_equal(found.user, day.user[day.sub_domain])
    assert np.array_equal(found.label, day.click[day.sub_domain])


def _gauc(file: Path) -> float:
    found = read_predictions(file)
    return gauc(found.user, found.label, found.score).value


def test_every_number_came_through_the_service_to_the_bit(done: Path, log: Log) -> None:
    test = log.day(DAYS).sub_domain.sum()
    served = results(done)["served"]
    assert [one["seed"] for one in served] == [1, 2]
    for one in served:
        assert one["equal"] == one["numbers"] > 0
        assert one["numbers"] % test == 0


def test_what_is_finished_is_not_trained_again(done: Path, log: Log) -> None:
    before = {file: file.stat().st_mtime_ns for file in (done / "work").rglob("*.parquet")}
    lost = next((done / "work" / "runs" / "conet.training.click").iterdir())
    score = read_predictions(lost).score
    lost.unlink()
    reproduce(log.path, done, ("3",), "small", seeds=2)
    after = {file: file.stat().st_mtime_ns for file in (done / "work").rglob("*.parquet")}
    assert [file for file in before if before[file] != after[file]] == [lost]
    np.testing.assert_array_equal(read_predictions(lost).score, score)


def test_a_read_without_a_plan_is_recorded_as_such_in_the_folder(done: Path, log: Log) -> None:
    before = read_ledger(done / LEDGER_FILE)
    assert before[0]["plan"] is None
    assert before[0]["checksum"] == log.info.checksum
    assert set(before[0]["rows"]) == set(TABLES)
    reproduce(log.path, done, ("2",), "small", seeds=2)
    assert read_ledger(done / LEDGER_FILE) == before, "nothing was scored again"


def test_figures_need_a_plan_and_are_recorded_beside_it(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = dataclasses.replace(PRESETS["small"], needs_plan=True)
    monkeypatch.setitem(PRESETS, "full", preset)
    out, plan = tmp_path / "out", tmp_path / "plan.json"
    found = reproduce(log.path, out, ("3",), "full", seeds=1)
    assert found["tables"] == {}
    assert found["trials"]
    variants = {variant["method"] for variant in found["variants"]}
    assert variants > {f"variant {weighting}, teacher" for weighting in WEIGHTINGS}
    assert not (out / LEDGER_FILE).exists()
    assert not (out / "work" / "runs").exists()
    draft = json.loads(DRAFT.read_text(encoding="utf-8"))
    logs = {log.info.name: log.info.checksum}
    plan.write_text(json.dumps({**draft, "logs": logs, "thresholds": {}, "trials": 3}))
    found = reproduce(log.path, out, ("3",), "full", seeds=1, plan=plan)
    [read] = read_ledger(tmp_path / LEDGER_FILE)
    assert read["plan"] == found["plan"]["sha256"] == read_plan(plan).sha256
    assert "K_u" in read["rows"]["3"]
    assert not (out / LEDGER_FILE).exists()


def test_turning_every_label_of_the_test_day_changes_no_prediction(
    done: Path, tmp_path: Path
) -> None:
    flipped = tiny_log(tmp_path / "log", flip_from=DAYS, pretrain_until=2)
    out = tmp_path / "out"
    tables = ("2", "8")
    reproduce(flipped.path, out, tables, "small", seeds=2)
    ours, compared = done / "predictions", 0
    for file in sorted(file for table in tables for file in (ours / table).rglob("*.parquet")):
        other = read_predictions(out / "predictions" / file.relative_to(ours))
        one = read_predictions(file)
        assert np.array_equal(one.label, ~other.label)
        np.testing.assert_array_equal(one.score, other.score, err_msg=str(file))
        compared += 1
    rows = [row for table in tables for row in results(done)["tables"][table]["rows"]]
    assert compared == sum(len(row["gauc"]) for row in rows) > 0


def test_every_method_has_as_many_trials(done: Path) -> None:
    values = results(done)
    tried = Counter(
        trial["method"] for trial in values["trials"] if not has_collapsed(trial["gauc"].values())
    )
    # KEEP's three are of pretraining, students and plug-in; other knowledge needs the last alone.
    assert tried == dict.fromkeys(values["tuned"], 3) | dict.fromkeys(values["plug_ins"], 1)
    assert set(values["plug_ins"]) == {"keep, both", "keep, both_logits", "keep, teacher_logits"}


def test_collapsed_trials_are_replaced_until_no_option_is_left(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keep.reproduce.results.COLLAPSED", 1.0)
    found = reproduce(log.path, tmp_path / "out", ("6",), "small", seeds=1)
    tried = [str(trial["options"]) for trial in found["trials"] if trial["method"] == "base"]
    options = [*BASE.grid(BASE.options()), *BASE.spares(BASE.options())]
    assert len(tried) == len(set(tried)) == len(options)
    assert {trial["options"]["learning_rate"] for trial in found["trials"][: len(tried)]} == {
        option.learning_rate for option in options
    }
    assert "| base | 18 | 18 |" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_another_log_is_refused_in_the_same_folder(done: Path, tmp_path: Path) -> None:
    other = tiny_log(tmp_path / "log", flip_from=2, pretrain_until=2)
    with pytest.raises(WorkshopError, match="was begun with checksum"):
        reproduce(other.path, done, ("2",), "small", seeds=2)


def test_a_folder_in_which_another_run_is_at_work_is_refused(done: Path, log: Log) -> None:
    other = Workshop(log.path, done, 5)
    other.claim({})
    with pytest.raises(WorkshopError, match="another process is at work in it"):
        reproduce(log.path, done, ("2",), "small", seeds=2)
    other.close()
    reproduce(log.path, done, ("2",), "small", seeds=2)


def test_a_folder_that_holds_something_else_is_refused(log: Log, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(WorkshopError, match="is not empty"):
        reproduce(log.path, tmp_path, ("2",), "small")


def test_one_training_day_leaves_none_to_choose_on(tmp_path: Path) -> None:
    short = tiny_log(tmp_path / "log")
    with pytest.raises(ReproductionError, match="two are needed"):
        reproduce(short.path, tmp_path / "out", ("2",), "small")


def test_a_failed_job_names_itself_and_its_cause(done: Path, log: Log, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    shutil.rmtree(out / "work" / "pretrain" / "students-1")
    run = out / "work" / "runs" / "keep.training.click.teacher"
    shutil.rmtree(run)
    with pytest.raises(
        ReproductionError, match=r"keep\.training\.click\.teacher, seed 1.*checkpoint"
    ):
        reproduce(log.path, out, ("2",), "small", seeds=2)
