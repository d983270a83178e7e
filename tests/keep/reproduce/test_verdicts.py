"""Claims hold or not by the figures in the JSON, and by nothing else."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from keep.reproduce.paper import PAPER
from keep.reproduce.plan import PERMUTED
from keep.reproduce.registration import world_seeds
from keep.reproduce.verdicts import BOTH, Order, Verdict, orders, verdicts

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
                KEEP=row(0.008),
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
    assert len(found) == 6 + 4 + 2 + 4
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


PLAN: dict[str, Any] = {
    "sha256": "0badcafe" + "0" * 56,
    "worlds": 3,
    "logs": {"movielens-1m": "def"},
    "endpoint": {"table": "8", "row": BOTH},
    "thresholds": {
        "worlds": {"share": 0.88, "share_low": 0.83, "difference": -0.004},
        "movielens-1m": {"difference": -0.004},
    },
}


def planned(seeds: list[int], low: float = 0.85, difference: float = -0.003) -> dict[str, Any]:
    """A run of fresh worlds, as the plan has them."""
    results = {**good(), "plan": PLAN, "changed": []}
    results["log"] |= {"name": "simulated-half", "seed": seeds}
    paired = {"lift": difference, "interval": [difference - 0.001, difference + 0.001]}
    share = {"of": "KEEP", "value": 0.9, "interval": [low, 0.95], "difference": paired}
    find(results, "8", BOTH)["share"] = share
    return results


def test_what_was_planned_is_judged_by_the_plan_s_thresholds() -> None:
    seeds = list(world_seeds(PLAN["sha256"], 3))
    assert failing(planned(seeds)) == []
    told = [found.claim for found in verdicts(planned(seeds), {}) if "planned" in found.claim]
    assert told == [
        "planned: code as at the plan's commit",
        f"planned: {BOTH}, share of the teacher's lift at least 88%",
        f"planned: {BOTH}, its lower bound at least 83%",
        f"planned: {BOTH}, GAUC minus the teacher's at least -0.0040",
    ]
    assert failing(planned(seeds, low=0.82, difference=-0.0041)) == told[2:]


def test_worlds_that_the_plan_does_not_give_are_seen() -> None:
    seeds = list(world_seeds(PLAN["sha256"], 3))
    assert failing(planned(seeds[:2])) == ["all worlds that the plan's checksum gives"]
    assert failing(planned([1, 2, 3])) == ["all worlds that the plan's checksum gives"]


def test_a_log_that_the_plan_names_has_thresholds_of_its_own() -> None:
    results = planned([], low=0.1)
    results["log"] |= {"name": "movielens-1m", "checksum": "def"}
    told = [found.claim for found in verdicts(results, CHECKSUMS) if "planned" in found.claim]
    assert told[1:] == [f"planned: {BOTH}, GAUC minus the teacher's at least -0.0040"]


def test_code_that_is_not_the_plan_s_is_seen() -> None:
    seeds = list(world_seeds(PLAN["sha256"], 3))
    for changed in (["keep/din.py"], None):
        results = {**planned(seeds), "changed": changed}
        assert failing(results) == ["planned: code as at the plan's commit"]


UNPRINTED = ("Base", row(0.0, None, paper=None))
"""A base that the paper's table does not have."""


def printed(name: str, lift: float, **more: Any) -> tuple[str, dict[str, Any]]:
    """A row of table 2 that the paper has."""
    base = None if name == "Base" else "Base"
    return name, row(lift, base, paper=dataclasses.asdict(PAPER["2"][name]), **more)


def test_an_order_is_decided_where_the_interval_of_the_difference_excludes_zero() -> None:
    base = printed("Base", 0.0)
    base[1]["interval"] = [0.0, 0.0]
    rows = dict([base, printed("Sample Merging", 0.02), printed("CoNet", 0.0005)])
    assert orders({"tables": {"2": table(**rows)}}) == [
        Order("2", "CoNet over Base", "undecided", "+0.0005 (-0.0005 to +0.0015)"),
        Order("2", "CoNet over Sample Merging", "reversed", "-0.0195 (-0.0215 to -0.0175)"),
        Order("2", "Base over Sample Merging", "reversed", "-0.0200 (-0.0210 to -0.0190)"),
    ]


def test_without_a_paired_difference_only_lifts_that_are_apart_decide() -> None:
    """Two lifts to one base: the difference lies between the ends of their intervals."""
    one, other = printed("KEEP-C", 0.0250), printed("CoNet", 0.0265)
    near = {"tables": {"2": table(**dict([UNPRINTED, one, other]))}}
    text = "-0.0015, no paired predictions"
    assert orders(near) == [Order("2", "KEEP-C over CoNet", "undecided", text)]
    stored = {"above": "KEEP-C", "below": "CoNet", "lift": -0.0015, "interval": [-0.002, -0.001]}
    near["tables"]["2"]["orders"] = [stored]
    text = "-0.0015 (-0.0020 to -0.0010)"
    assert orders(near) == [Order("2", "KEEP-C over CoNet", "reversed", text)]


def test_rows_are_compared_as_they_were_paired_before() -> None:
    keep = printed("KEEP", 0.03, against={"CoNet": 0.0295})
    rows = dict([UNPRINTED, keep, printed("CoNet", 0.0)])
    text = "+0.0295 (+0.0285 to +0.0305)"
    found = orders({"tables": {"2": table(**rows)}})
    assert found == [Order("2", "KEEP over CoNet", "as the paper", text)]


def test_table_7_orders_what_the_first_and_the_last_group_gain() -> None:
    groups = {"0-28": row(0.01, "0-28 Base"), ">28": row(0.03, ">28 Base")}
    found = orders({"tables": {"7": table(**groups)}})
    claim = "users with the fewest super-domain clicks gain more than those with the most"
    assert found == [Order("7", claim, "reversed", "-0.0200 (-0.0220 to -0.0180)")]


def test_rows_with_a_base_of_their_own_are_compared_with_that() -> None:
    found = orders({"tables": {"5": table(CTR=row(0.01, "CTR Base"))}})
    assert found == [
        Order("5", "CTR over its Base", "as the paper", "+0.0100 (+0.0090 to +0.0110)")
    ]


def test_a_difference_without_figures_is_undecided() -> None:
    rows = {"CTR": row(0.0, "CTR Base") | {"lift": None, "interval": [None, None]}}
    assert orders({"tables": {"5": table(**rows)}}) == [
        Order("5", "CTR over its Base", "undecided", "no figures")
    ]
