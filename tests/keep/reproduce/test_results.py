"""``results.json``: the contract's format, figures from the predictions, the same every time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keep.gauc import gauc
from keep.reproduce.predictions import PredictionsError, prediction_path
from keep.reproduce.results import PlannedRow, build_results, write_results
from keep.reproduce.statistics import UnpairedError
from tests.keep.reproduce.planted import FACTS, PLAN, SEEDS, planted_results, ranked, store, stored


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    stored(path)
    return path


@pytest.fixture(scope="module")
def results(directory: Path) -> dict[str, Any]:
    return build_results(directory, PLAN, FACTS)


def row(results: dict[str, Any], table: str, name: str) -> dict[str, Any]:
    return next(found for found in results["tables"][table]["rows"] if found["name"] == name)


def test_a_row_has_the_contracts_fields(results: dict[str, Any]) -> None:
    found = row(results, "2", "KEEP")
    assert len(found["gauc"]) == len(SEEDS)
    for seed, value in zip(SEEDS, found["gauc"], strict=True):
        one = ranked(1.6, seed)
        assert value == round(gauc(one.user, one.label, one.score).value, 6)
    assert found["base"] == "Base"
    assert found["base_gauc"] == row(results, "2", "Base")["gauc"]
    mean = np.mean(np.subtract(found["gauc"], found["base_gauc"]))
    assert found["lift"] == pytest.approx(mean, abs=2e-6)
    low, high = found["interval"]
    assert low < found["lift"] < high
    assert found["paper"] == {"gauc": 0.6380, "lift": 0.0070}
    assert (found["users"], found["impressions"]) == (40, 480)


def test_the_base_lifts_nothing(results: dict[str, Any]) -> None:
    base = row(results, "2", "Base")
    assert (base["lift"], base["interval"], base["base"]) == (0.0, [0.0, 0.0], None)


def test_rows_are_in_the_plans_order(results: dict[str, Any]) -> None:
    names = [found["name"] for found in results["tables"]["2"]["rows"]]
    assert names == ["Base", "CoNet", "KEEP", "Oracle"]


def test_rows_are_compared_with_others_paired(results: dict[str, Any]) -> None:
    keep, conet = row(results, "2", "KEEP"), row(results, "2", "CoNet")
    found = keep["against"]["CoNet"]
    assert found["lift"] == pytest.approx(keep["lift"] - conet["lift"], abs=2e-6)
    assert found["interval"][0] < found["lift"] < found["interval"][1]


def test_a_row_without_chance_has_one_score_and_says_so(results: dict[str, Any]) -> None:
    oracle = row(results, "2", "Oracle")
    assert len(oracle["gauc"]) == 1
    assert len(oracle["base_gauc"]) == len(SEEDS)
    assert oracle["paper"] is None
    assert oracle["note"] == "the ground truth; one score, paired with every seed"


def test_a_group_has_its_own_base_and_users(results: dict[str, Any]) -> None:
    few, many = row(results, "7", "0-50"), row(results, "7", ">300")
    assert (few["base"], many["base"]) == ("0-50 Base", ">300 Base")
    assert few["base_gauc"] != many["base_gauc"]
    assert [found["name"] for found in results["tables"]["7"]["rows"]] == ["0-50", ">300"]


def test_what_decomposition_keeps_is_a_share_of_keeps_lift(results: dict[str, Any]) -> None:
    part, whole = row(results, "8", "decomposition"), row(results, "8", "KEEP")
    assert part["share"]["of"] == "KEEP"
    assert part["share"]["value"] == pytest.approx(part["lift"] / whole["lift"], rel=1e-3)
    assert whole["share"] is None


def test_beside_a_share_stands_the_paired_difference_to_the_best_teacher(directory: Path) -> None:
    better = PlannedRow("decomposition", "Base", share_of=("Base", "KEEP"), transfer_of="KEEP")
    unsure = PlannedRow("KEEP", "Base", transfer_of="Base")
    plan = {"8": [PlannedRow("Base", None), unsure, better]}
    results = build_results(directory, plan, FACTS)
    part, whole = row(results, "8", "decomposition"), row(results, "8", "KEEP")
    assert part["share"]["of"] == "KEEP"
    difference = part["share"]["difference"]
    assert difference["lift"] == pytest.approx(part["lift"] - whole["lift"], abs=2e-6)
    assert difference["interval"][0] < difference["lift"] < difference["interval"][1]
    assert part["transfer"] == {name: part["share"][name] for name in ("of", "value", "interval")}
    assert whole["transfer"] is None, "Base over Base is not surely above zero"


def test_every_pair_of_the_paper_s_rows_is_an_order(results: dict[str, Any]) -> None:
    orders = results["tables"]["2"]["orders"]
    pairs = [(order["above"], order["below"]) for order in orders]
    assert pairs == [("KEEP", "CoNet"), ("KEEP", "Base"), ("CoNet", "Base")]
    keep = row(results, "2", "KEEP")
    assert orders[0]["lift"] == keep["against"]["CoNet"]["lift"]
    assert orders[0]["interval"] == keep["against"]["CoNet"]["interval"]
    assert orders[1]["lift"] == keep["lift"]


def test_table_7_orders_the_groups_gains(results: dict[str, Any]) -> None:
    [order] = results["tables"]["7"]["orders"]
    few, many = row(results, "7", "0-50"), row(results, "7", ">300")
    assert (order["above"], order["below"]) == ("0-50", ">300")
    assert order["lift"] == pytest.approx(few["lift"] - many["lift"], abs=2e-6)
    assert order["interval"][0] < order["lift"] < order["interval"][1]


def test_the_facts_stand_at_the_top(results: dict[str, Any]) -> None:
    assert results["log"]["checksum"] == "abc"
    assert results["tuned"] == {"Base": {"batch": 64, "lr": 1e-7}}
    assert results["trials"][0]["gauc"] == {"1": None}
    assert results["seeds"] == list(SEEDS)


def test_the_file_is_the_same_each_time_and_strict_json(directory: Path, tmp_path: Path) -> None:
    first = write_results(tmp_path / "a", build_results(directory, PLAN, FACTS))
    second = write_results(tmp_path / "b", build_results(directory, PLAN, FACTS))
    assert first.read_bytes() == second.read_bytes()
    assert "NaN" not in first.read_text()
    assert json.loads(first.read_text()) == build_results(directory, PLAN, FACTS)
    assert list(first.parent.iterdir()) == [first]


def test_figures_that_do_not_exist_are_null_with_a_note(tmp_path: Path) -> None:
    for name in ("Base", "KEEP"):
        for seed in SEEDS:
            found = ranked(1.0, seed)
            store(tmp_path, "2", name, seed, dataclasses.replace(found, label=found.label & False))
    results = build_results(tmp_path, {"2": [PLAN["2"][0], PlannedRow("KEEP", "Base")]}, FACTS)
    keep = row(results, "2", "KEEP")
    assert (keep["lift"], keep["interval"]) == (None, [None, None])
    assert keep["gauc"] == [None] * len(SEEDS)
    assert "no GAUC" in keep["note"]
    write_results(tmp_path, results)


def test_a_missing_seed_is_said(tmp_path: Path) -> None:
    planted_results(tmp_path)
    prediction_path(tmp_path, "2", "KEEP", SEEDS[1]).unlink()
    with pytest.raises(PredictionsError, match=r"keep/12\.parquet: is missing"):
        build_results(tmp_path, PLAN, FACTS)


def test_rows_of_other_impressions_are_refused(tmp_path: Path) -> None:
    stored(tmp_path)
    for seed in SEEDS:
        store(tmp_path, "2", "CoNet", seed, ranked(1.1, seed, users=39))
    with pytest.raises(UnpairedError, match="different impressions"):
        build_results(tmp_path, PLAN, FACTS)


def test_two_rows_in_one_directory_are_refused(tmp_path: Path) -> None:
    plan = {"7": [PlannedRow(">300", None), PlannedRow("300", None)]}
    with pytest.raises(ValueError, match="several rows that lie in 300"):
        build_results(tmp_path, plan, FACTS)
