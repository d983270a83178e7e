"""Runs of several worlds: joined as one, and their variants compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keep.reproduce.jobs import trial_predictions
from keep.reproduce.page import read_results
from keep.reproduce.predictions import write_predictions
from keep.reproduce.results import build_results, write_results, write_rows
from keep.reproduce.worlds import WorldsError, join, main, variant_worlds
from tests.keep.reproduce.planted import FACTS, PLAN, ranked, stored

CHEAP, DEAR = "plain, both", "distillation, both"


def run(folder: Path, world: int, **facts: Any) -> Path:
    """A finished run of one world, with two variants."""
    stored(folder, world)
    write_rows(folder, PLAN)
    variants = []
    for name, strength in ((CHEAP, 1.0), (DEAR, 1.6)):
        for seed in (1, 2):
            found = ranked(strength, seed, day_seed=100 + world)
            path = trial_predictions(folder, f"variant {name}", 0, seed)
            write_predictions(path, found.user, found.item, found.label, found.score)
            variants.append({"method": f"variant {name}", "seed": seed})
    log = {"name": "planted", "seed": world, "checksum": f"abc{world}", "days": [1, 2, 3]}
    trials = [{"method": "Base", "options": {}, "gauc": {"1": 0.6}}]
    more = {
        "log": log,
        "trials": trials,
        "plan": None,
        "changed": [f"keep/{world}.py"],
        "served": [{"seed": 11}],
        "plug_ins": {},
    }
    results = build_results(folder, PLAN, {**FACTS, **more, **facts})
    write_results(folder, {**results, "variants": variants})
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [run(folder / str(world), world) for world in range(2)]


def lift(results: dict[str, Any], table: str, name: str) -> float:
    rows = results["tables"][table]["rows"]
    return next(float(row["lift"]) for row in rows if row["name"] == name)


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def test_a_table_of_several_worlds_has_the_mean_of_theirs(runs: list[Path]) -> None:
    apart, together = [read(folder) for folder in runs], join(runs)
    for table, name in (("2", "KEEP"), ("7", "0-50"), ("8", "decomposition")):
        lifts = [lift(results, table, name) for results in apart]
        assert lifts[0] != lifts[1]
        assert lift(together, table, name) == pytest.approx(np.mean(lifts), abs=2e-6)
    assert [row["name"] for row in together["tables"]["2"]["rows"]] == [
        row["name"] for row in apart[0]["tables"]["2"]["rows"]
    ]


def test_what_stands_beside_the_figures_is_told_of_every_world(runs: list[Path]) -> None:
    together = join(runs)
    assert together["log"]["name"] == "planted, 2 worlds"
    assert together["log"]["seed"] == [0, 1]
    assert together["log"]["checksum"] == "abc0, abc1"
    assert [trial["method"] for trial in together["trials"]] == ["Base, seed 0", "Base, seed 1"]
    assert set(together["tuned"]) == {"Base, seed 0", "Base, seed 1"}
    assert len(together["served"]) == 2
    assert together["seconds"] == 180
    assert together["commit"] == "0123abc"
    assert together["changed"] == ["keep/0.py", "keep/1.py"]


def test_one_world_alone_is_its_run(runs: list[Path]) -> None:
    assert join(runs[:1])["tables"] == read(runs[0])["tables"]


def test_joined_results_are_what_the_page_reads(runs: list[Path], tmp_path: Path) -> None:
    main([*map(str, runs), "--out", str(tmp_path / "worlds.json")])
    [found] = read_results(tmp_path)
    assert found["tables"] == join(runs)["tables"]


def test_variants_are_compared_over_worlds(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [len(world.seeds) for world in variant_worlds(runs, DEAR)] == [2, 2]
    main([*map(str, runs), "--variants", CHEAP, DEAR])
    printed = capsys.readouterr().out
    assert f"worth its cost: {DEAR}" in printed
    main([*map(str, runs), "--variants", DEAR, CHEAP])
    assert f"worth its cost: {DEAR}" in capsys.readouterr().out


def test_runs_of_another_kind_are_refused(runs: list[Path], tmp_path: Path) -> None:
    other = run(tmp_path / "other", 2, preset="full")
    with pytest.raises(WorldsError, match="differs from the first run in its preset: full"):
        join([*runs, other])
    fewer = run(tmp_path / "fewer", 2)
    write_rows(fewer, {"2": PLAN["2"]})
    with pytest.raises(WorldsError, match="differs from the first run in its tables"):
        join([*runs, fewer])


def test_what_is_not_there_is_said(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no results\.json: run keep reproduce to its end"):
        main([str(tmp_path), "--out", str(tmp_path / "worlds.json")])
    with pytest.raises(WorldsError, match="did not try the variant 'best'; there are: plain, both"):
        variant_worlds(runs, "best")
