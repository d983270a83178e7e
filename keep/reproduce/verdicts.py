"""What was to come out of the reproduction, and the paper's orders, held against what did."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from keep.reproduce.paper import PAPER
from keep.reproduce.plan import PERMUTED
from keep.reproduce.registration import WORLDS, world_seeds
from keep.reproduce.report import (
    Results,
    Row,
    difference_cell,
    gauc_cell,
    has_own_bases,
    interval_cell,
    rows_by_name,
    share_cell,
    signed,
)
from keep.reproduce.results import has_collapsed

LIFT = {"simulated": 0.0070, "movielens": 0.010}
"""The least that KEEP is to lift over Base, by the first word of the log's name."""
SERVED = {"simulated": 0.0001, "movielens": 0.0005}
"""The most that knowledge as served in f16 may change GAUC."""
OF_ORACLE, KEPT, STEP = 0.10, 0.85, -0.0005
PERMUTED_KEEPS = 0.25
"""What of KEEP's lift may at most be there without taste in the knowledge."""
TRIALS, SEEDS = 12, 5
BOTH = "decomposition + degeneration"


REGISTERED = {
    "share": "share of the teacher's lift at least {:.0%}",
    "share_low": "its lower bound at least {:.0%}",
    "difference": "GAUC minus the teacher's at least {:+.4f}",
}
"""What a plan's thresholds say."""


@dataclass(frozen=True)
class Verdict:
    """One claim about one run."""

    claim: str
    measured: str
    holds: bool


Outcome = Literal["reversed", "undecided", "as the paper"]
"""How an order of the paper came out here."""
OUTCOMES: Sequence[Outcome] = ("reversed", "undecided", "as the paper")
"""What contradicts the paper comes first."""


@dataclass(frozen=True)
class Order:
    """Two rows of which the paper has one above the other."""

    table: str
    claim: str
    """The order as in the paper."""
    outcome: Outcome
    """Decided if the interval of the paired difference excludes zero."""
    measured: str
    """The difference, in the paper's direction."""


def orders(results: Results) -> list[Order]:
    """Hold every order in the paper's tables against one run, table by table.

    Results of an earlier format have no paired difference of some rows. It lies between those of
    the ends of the two lifts' intervals, whatever ties the two: where these decide, it is decided.
    """
    return [
        order for number, table in results["tables"].items() for order in _orders(number, table)
    ]


def _orders(number: str, table: Mapping[str, Any]) -> Iterator[Order]:
    rows: Sequence[Row] = table["rows"]
    if number == "7":
        stored = [(order["above"], order["below"]) for order in table.get("orders", ())]
        for above, below in stored or [(rows[0]["name"], rows[-1]["name"])]:
            what = above.partition(" ")[2] or "super-domain clicks"
            claim = f"users with the fewest {what} gain more than those with the most"
            yield _order(number, claim, table, above, below)
    elif has_own_bases(rows):
        for row in rows:
            lift = row["lift"], row["interval"]
            yield Order(number, f"{row['name']} over its Base", *_outcome(*lift, is_paired=True))
    else:
        printed = [row for row in rows if row["paper"] is not None]
        falling = sorted(printed, key=lambda row: -float(row["paper"]["gauc"]))
        for above, below in itertools.combinations(falling, 2):
            if above["paper"]["gauc"] > below["paper"]["gauc"]:
                claim = " over ".join(_printed_name(number, row) for row in (above, below))
                yield _order(number, claim, table, above["name"], below["name"])


def _printed_name(number: str, row: Row) -> str:
    """Name a row as the paper does."""
    if row["name"] in PAPER[number]:
        return str(row["name"])
    return next(name for name, of in PAPER[number].items() if of.gauc == row["paper"]["gauc"])


def _order(number: str, claim: str, table: Mapping[str, Any], above: str, below: str) -> Order:
    for order in table.get("orders", ()):
        if (order["above"], order["below"]) == (above, below):
            return Order(number, claim, *_outcome(order["lift"], order["interval"], is_paired=True))
    rows = rows_by_name(table)
    one, other = rows[above], rows[below]
    if below in one["against"]:
        found = one["against"][below]
        return Order(number, claim, *_outcome(found["lift"], found["interval"], is_paired=True))
    (low, high), (other_low, other_high) = one["interval"], other["interval"]
    is_paired = one["base"] is None or other["base"] is None
    interval = [low - other_high, high - other_low]
    return Order(number, claim, *_outcome(one["lift"] - other["lift"], interval, is_paired))


def _outcome(
    lift: float | None, interval: Sequence[float | None], is_paired: bool
) -> tuple[Outcome, str]:
    low, high = interval
    if lift is None or low is None or high is None:
        return "undecided", "no figures"
    measured = f"{signed(lift)} ({interval_cell(interval)})"
    if low > 0:
        return "as the paper", measured
    if high < 0:
        return "reversed", measured
    return "undecided", measured if is_paired else f"{signed(lift)}, no paired predictions"


def verdicts(results: Results, checksums: Mapping[str, str]) -> list[Verdict]:
    """Judge one run by the claims about its log; what it did not measure is left out.

    Claims about the figures are the full preset's; the small one is to end in time.

    Parameters
    ----------
    results : mapping
        What ``results.json`` holds.
    checksums : mapping of str to str
        Checksums of the logs, by name, as committed before the first run.

    Returns
    -------
    list of Verdict
        In the order in which the claims were made.
    """
    log, kind = results["log"], str(results["log"]["name"]).partition("-")[0]
    rows = {number: rows_by_name(table) for number, table in results["tables"].items()}
    judged = [_fixed_before(results, checksums)]
    if results["preset"] != "full":
        minutes, holds = results["seconds"] / 60, results["seconds"] <= 3600
        text = f"{len(rows)} tables, {minutes:.0f} min"
        return [*judged, Verdict("all tables in 60 min", text, holds and len(rows) == len(PAPER))]
    judged += _set_up(results)
    if "2" in rows:
        judged += [*_log(kind, log, rows["2"]["Base"]), *_compared(kind, rows["2"])]
    if kind == "simulated":
        for number in sorted({"3", "4"} & set(rows)):
            judged += _steps(rows[number])
    if "8" in rows:
        judged += _serving(kind, rows["8"])
    if results.get("oracle"):
        closest = min(results["oracle"], key=lambda other: float(other["interval"][0]))
        text, above = f"over {closest['over']} {_lift(closest)}", closest["interval"][0] > 0
        judged.append(Verdict("the oracle above every run, interval above zero", text, above))
    if results.get("plan"):
        judged += [_code(results["changed"]), *_registered(results["plan"], log, rows)]
    if results.get("served"):
        numbers, equal = (sum(seed[k] for seed in results["served"]) for k in ("numbers", "equal"))
        text = f"{equal:,} of {numbers:,} numbers"
        judged.append(Verdict("served in f16 to the bit", text, equal == numbers))
    return judged


def _fixed_before(results: Results, checksums: Mapping[str, str]) -> Verdict:
    """Judge whether the log, or all the fresh worlds, had been fixed before anything ran."""
    log, plan = results["log"], results.get("plan")
    if plan and log["name"] not in plan["logs"]:
        seeds = [log["seed"]] if isinstance(log["seed"], int) else log["seed"]
        planned = list(world_seeds(plan["sha256"], plan["worlds"]))
        return Verdict("all worlds that the plan's checksum gives", str(seeds), seeds == planned)
    same = checksums.get(log["name"]) == log["checksum"]
    return Verdict("log's checksum as committed before", str(log["checksum"])[:12], same)


def _code(changed: Sequence[str] | None) -> Verdict:
    measured = "nobody knows" if changed is None else ", ".join(changed) or "no file differs"
    return Verdict("planned: code as at the plan's commit", measured, changed == [])


def _registered(
    plan: Mapping[str, Any], log: Mapping[str, Any], rows: Mapping[str, Mapping[str, Row]]
) -> Iterator[Verdict]:
    """Judge the row that the plan names by its thresholds for this log."""
    reached = plan["thresholds"].get(log["name"] if log["name"] in plan["logs"] else WORLDS, {})
    name = plan["endpoint"]["row"]
    row = rows.get(plan["endpoint"]["table"], {}).get(name)
    if row is None or row["share"] is None:
        return
    share, difference = row["share"], row["share"]["difference"]
    found = {
        "share": (share["value"], share_cell(share)),
        "share_low": (share["interval"][0], share_cell(share)),
        "difference": (difference["lift"], difference_cell(share)),
    }
    for threshold, least in reached.items():
        value, measured = found[threshold]
        claim = f"planned: {name}, {REGISTERED[threshold].format(least)}"
        yield Verdict(claim, measured, value is not None and value >= least)


def _set_up(results: Results) -> Iterator[Verdict]:
    seeds, tuning = results["seeds"], results["tuning_seeds"]
    text = f"{len(seeds)}, {len(set(seeds) & set(tuning))} of them used in tuning"
    holds = len(seeds) >= SEEDS and not set(seeds) & set(tuning)
    yield Verdict(f"at least {SEEDS} seeds, others than in tuning", text, holds)
    count = Counter(
        trial["method"] for trial in results["trials"] if not has_collapsed(trial["gauc"].values())
    )
    tried = sorted({count[method] for method in results["tuned"]})
    text = ", ".join(str(number) for number in tried)
    holds = len(tried) == 1 and 0 < tried[0] <= TRIALS
    yield Verdict(f"equally many trials for each method, at most {TRIALS}", text, holds)


def _log(kind: str, log: Mapping[str, Any], base: Row) -> Iterator[Verdict]:
    if kind != "simulated":
        return
    count = base["impressions"]
    yield Verdict(
        "200,000 test impressions of users with both classes", f"{count:,}", count >= 200_000
    )
    mean = statistics.mean(base["gauc"])
    yield Verdict("Base between 0.60 and 0.75", gauc_cell(base["gauc"]), 0.60 <= mean <= 0.75)
    days, scenes = len(log["days"]), len(log["params"]["scenes"])
    text = (
        f"{scenes} scenes, {days} days, taste's correlation {log['params']['taste_memory']} a day"
    )
    holds = scenes > 1 and days >= 20 and log["params"]["taste_memory"] < 1
    yield Verdict("several scenes, at least 20 days, drift", text, holds)


def _compared(kind: str, rows: Mapping[str, Row]) -> Iterator[Verdict]:
    keep = rows["KEEP"]
    lift = _lift(keep)
    if kind in LIFT:
        text = f"KEEP over Base at least {signed(LIFT[kind])}"
        yield Verdict(text, lift, keep["lift"] >= LIFT[kind])
    yield Verdict("its interval above zero", lift, keep["interval"][0] > 0)
    if PERMUTED in rows:
        upper, most = rows[PERMUTED]["interval"][1], PERMUTED_KEEPS * keep["lift"]
        text = f"{PERMUTED}: upper bound of the lift below {PERMUTED_KEEPS:.0%} of KEEP's"
        yield Verdict(text, f"{signed(upper)} against {signed(most)}", upper < most)
    if "oracle" in rows:
        share = keep["lift"] / rows["oracle"]["lift"]
        text = f"KEEP over Base at least {OF_ORACLE:.0%} of the oracle's lift"
        yield Verdict(text, f"{share:.1%}", share >= OF_ORACLE)


def _lift(row: Mapping[str, Any]) -> str:
    """Write a lift with a digit more than the claims have, so that it shows what decided."""
    return f"{row['lift']:+.5f} ({interval_cell(row['interval'])})"


def _steps(rows: Mapping[str, Row]) -> Iterator[Verdict]:
    for name, row in rows.items():
        if row["base"] is None:
            continue
        [(before, step)] = row["against"].items() or [("Base", row)]
        text = f"{name} over {before} at least {signed(STEP)}"
        yield Verdict(text, _lift(step), step["lift"] >= STEP)


def _serving(kind: str, rows: Mapping[str, Row]) -> Iterator[Verdict]:
    if kind == "simulated":
        share = rows[BOTH]["share"]
        holds = share["value"] is not None and share["value"] >= KEPT
        text = f"{BOTH} keeps at least {KEPT:.0%} of KEEP's lift"
        yield Verdict(text, share_cell(share), holds)
    served = rows.get(f"{BOTH}, served f16")
    if served is not None and kind in SERVED:
        change = served["against"][BOTH]["lift"]
        text = f"served in f16 within {SERVED[kind]:.4f} of offline"
        yield Verdict(text, f"{change:+.6f}", abs(change) <= SERVED[kind])
