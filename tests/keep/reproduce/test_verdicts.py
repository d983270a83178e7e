"""Claims hold or not by the figures in the JSON, and by nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from keep.reproduce.plan import COMPARED, PERMUTED
from keep.reproduce.verdicts import BOTH, Verdict, verdicts

CONTROL = "Base, all days"
CHECKSUMS = {"simulated-large": "abc", "movielens-1m": "def"}


def row(
    lift: float, base: str | None = "Base", against: dict[str, float] | None = None, **more: object
) -> dict[str, Any]:
    interval = [lift - 0.001, lift + 0.001]
    others = {
        name: {"lift": value, "interval": [value - 0.001, value + 0.001]}
        for name, value in (against or {}).items()
    }
    found = {"gauc": [0.65 + lift] * 5, "lift": lift, "interval": interval, "base": base}
    return {**found, "against": others, "share": None, "impressions": 250_000, **more}


def table(**rows: dict[str, Any]) -> dict[str, Any]:
    return {"rows": [{"name": name, **found} for name, found in rows.items()]}


def good() -> dict[str, Any]:
    """A run of the simulator that fulfils everything."""
    steps = {"K_u": row(0.004), "K_u, K_i": row(0.0036, against={"K_u": -0.0004})}
    kept = {"of": "KEEP", "value": 0.9, "interval": [0.85, 0.95]}
    return {
        "preset": "full",
        "log": {
            "name": "simulated-large",
            "checksum": "abc",
            "days": list(range(21)),
            "params": {"scenes": ["ads", "home"], "taste_memory": 0.97},
        },
        "seeds": [11, 12, 13, 14, 15],
        "tuning_seeds": [1, 2],
        "tuned": {"Base": {}, "KEEP": {}},
        "trials": [{"method": method, "gauc": {"1": 0.6, "2": 0.61}} for method in ("Base", "KEEP")]
        * 12,
        "seconds": 1800.0,
        "oracle": [
            {"over": over, "lift": lift, "interval": [lift - 0.001, lift + 0.001]}
            for over, lift in (("base.training.click", 0.06), ("keep.training.click", 0.052))
        ],
        "served": [{"seed": seed, "numbers": 10, "equal": 10} for seed in (11, 12)],
        "tables": {
            "2": table(
                Base=row(0.0, None),
                KEEP=row(0.008, against=dict.fromkeys((*COMPARED, CONTROL), 0.002)),
                oracle=row(0.06),
                **{PERMUTED: row(0.0005)},
            ),
            "3": table(Base=row(0.0, None), **steps),
            "8": table(
                **{
                    "Base": row(0.0, None),
                    BOTH: row(0.007, share=kept),
                    f"{BOTH}, served f16": row(0.007, against={BOTH: 0.00005}),
                }
            ),
        },
    }


def failing(results: dict[str, Any]) -> list[str]:
    return [found.claim for found in verdicts(results, CHECKSUMS) if not found.holds]


def find(results: dict[str, Any], number: str, name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = results["tables"][number]["rows"]
    return next(found for found in rows if found["name"] == name)


def test_a_good_run_fulfils_every_claim() -> None:
    found = verdicts(good(), CHECKSUMS)
    assert [verdict.claim for verdict in found if not verdict.holds] == []
    assert len(found) == 6 + 4 + len(COMPARED) + 2 + 4
    assert Verdict("K_u, K_i over K_u at least -0.0005", "-0.00040 (-0.0014 to +0.0006)", True) in (
        found
    )


@pytest.mark.parametrize(
    ("number", "name", "change", "claim"),
    [
        ("2", "KEEP", {"lift": 0.0069}, "KEEP over Base at least +0.0070"),
        ("2", "KEEP", {"interval": [-0.0001, 0.02]}, "its interval above zero"),
        ("2", "oracle", {"lift": 0.081}, "KEEP over Base at least 10% of the oracle's lift"),
        ("2", "Base", {"gauc": [0.59] * 5}, "Base between 0.60 and 0.75"),
        (
            "2",
            PERMUTED,
            {"interval": [-0.001, 0.0021]},
            f"{PERMUTED}: upper bound of the lift below 25% of KEEP's",
        ),
        (
            "2",
            "Base",
            {"impressions": 199_999},
            "200,000 test impressions of users with both classes",
        ),
        ("3", "K_u", {"lift": -0.0006}, "K_u over Base at least -0.0005"),
    ],
)
def test_a_figure_that_falls_short_is_seen(
    number: str, name: str, change: dict[str, Any], claim: str
) -> None:
    results = good()
    find(results, number, name).update(change)
    assert failing(results) == [claim]


@pytest.mark.parametrize("system", COMPARED)
def test_a_system_above_keep_is_seen(system: str) -> None:
    results = good()
    find(results, "2", "KEEP")["against"][system]["lift"] = -0.0001
    assert failing(results) == [f"KEEP above {system}"]


def test_a_control_above_keep_breaks_no_claim() -> None:
    results = good()
    find(results, "2", "KEEP")["against"][CONTROL]["lift"] = -0.0001
    assert failing(results) == []


def test_a_trial_that_collapsed_is_none() -> None:
    results = good()
    results["trials"].append({"method": "KEEP", "gauc": {"1": 0.6, "2": 0.5049}})
    assert failing(results) == []
    results["trials"].append({"method": "KEEP", "gauc": {"1": 0.6, "2": 0.5051}})
    assert failing(results) == ["equally many trials for each method, at most 12"]


def test_a_lift_lost_in_serving_is_seen() -> None:
    results = good()
    find(results, "8", BOTH)["share"] = {"of": "KEEP", "value": 0.84, "interval": [0.8, 0.9]}
    find(results, "8", f"{BOTH}, served f16")["against"][BOTH]["lift"] = -0.00011
    assert failing(results) == [
        f"{BOTH} keeps at least 85% of KEEP's lift",
        "served in f16 within 0.0001 of offline",
    ]


def test_a_run_that_reaches_the_oracle_is_seen() -> None:
    results = good()
    results["oracle"][1]["interval"] = [-0.0001, 0.1]
    assert failing(results) == ["the oracle above every run, interval above zero"]


def test_a_number_that_changed_on_its_way_through_the_service_is_seen() -> None:
    results = good()
    results["served"][1]["equal"] = 9
    assert failing(results) == ["served in f16 to the bit"]


def test_another_log_shared_seeds_and_unequal_tuning_are_seen() -> None:
    results = good()
    results["log"]["checksum"] = "other"
    results["tuning_seeds"] = [11]
    results["tuned"]["CoNet"] = {}
    assert failing(results) == [
        "log's checksum as committed before",
        "at least 5 seeds, others than in tuning",
        "equally many trials for each method, at most 12",
    ]


def test_a_run_of_table_8_alone_is_judged_by_what_it_measured() -> None:
    results = good()
    results["tables"] = {"8": results["tables"]["8"]}
    find(results, "8", BOTH)["share"]["value"] = 0.84
    found = {verdict.claim: verdict.holds for verdict in verdicts(results, CHECKSUMS)}
    assert found == {
        "log's checksum as committed before": True,
        "at least 5 seeds, others than in tuning": True,
        "equally many trials for each method, at most 12": True,
        f"{BOTH} keeps at least 85% of KEEP's lift": False,
        "served in f16 within 0.0001 of offline": True,
        "the oracle above every run, interval above zero": True,
        "served in f16 to the bit": True,
    }


def test_movielens_has_claims_of_its_own() -> None:
    results = copy.deepcopy(good())
    results["log"] = {"name": "movielens-1m", "checksum": "def", "days": [1]}
    results["tables"]["2"]["rows"].pop()
    find(results, "8", f"{BOTH}, served f16")["against"][BOTH]["lift"] = 0.0004
    assert failing(results) == ["KEEP over Base at least +0.0100"]
    find(results, "2", "KEEP")["lift"] = 0.0101
    assert failing(results) == []


def test_the_small_preset_claims_its_time_only() -> None:
    results = {**good(), "preset": "small"}
    assert failing(results) == ["all tables in 60 min"]
    results["tables"] = {str(number): table() for number in range(2, 9)}
    assert failing(results) == []
    assert failing({**results, "seconds": 3601.0}) == ["all tables in 60 min"]
