"""Percentiles, throughput and failures of what Locust found, from its answers one by one.

Locust's own pages round to whole milliseconds, which is longer than many answers take.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.plan import (
    GROUPS,
    JSON,
    SAFETENSORS,
    WARM_UP,
    Answer,
    Outcome,
    Plan,
    group_of,
    is_counted,
)

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
FAULTS_SHOWN = 5
ALL = "all"

_FORMATS = {SAFETENSORS: "safetensors", JSON: "JSON"}
_ORDER = (*(group_of(last) for _, last in GROUPS), *_FORMATS.values(), ALL)


class Row(NamedTuple):
    """A group of answers."""

    group: str
    answers: int
    ms: Sequence[float]
    """``PERCENTILES`` of their times."""


def percentiles(milliseconds: Sequence[float]) -> list[float]:
    """Return ``PERCENTILES`` of some times: each a time that was measured, not a mean of two.

    Parameters
    ----------
    milliseconds : sequence of float
        One at least.

    Returns
    -------
    list of float
        In the order of ``PERCENTILES``.
    """
    ordered = sorted(milliseconds)
    # Rounded first: 99.9% of 1000 is 999.0000000000001 in floating point.
    ranks = (math.ceil(round(p * len(ordered) / 100, 6)) for p in PERCENTILES)
    return [ordered[rank - 1] for rank in ranks]


def rows(answers: Sequence[Answer]) -> list[Row]:
    """Return percentiles by number of candidates, by format and of all.

    Parameters
    ----------
    answers : sequence of Answer
        Those that count.

    Returns
    -------
    list of Row
        Groups without answers are left out.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        for group in (group_of(answer.candidates), _FORMATS[answer.accept], ALL):
            times[group].append(answer.ms)
    return [
        Row(group, len(times[group]), percentiles(times[group]))
        for group in _ORDER
        if group in times
    ]


def faults(answers: Sequence[Answer]) -> list[tuple[str, int]]:
    """Return what failed, most frequent first, and how many times."""
    return Counter(answer.fault for answer in answers if answer.fault).most_common()


def print_report(outcome: Outcome, plan: Plan, table: Path) -> bool:
    """Print what a load test found.

    Parameters
    ----------
    outcome : Outcome
    plan : Plan
        What was to be done.
    table : Path
        Where the percentiles are written as CSV.

    Returns
    -------
    bool
        Whether answers came, and none of them failed.
    """
    counted = [
        answer
        for answer in outcome.answers
        if not answer.fault and is_counted(answer, plan.seconds)
    ]
    groups = rows(counted)
    _print_rows(groups)
    write_rows(groups, table)
    _print_generator(outcome, counted, plan)
    failed = faults(outcome.answers)
    checked = sum(answer.checked for answer in outcome.answers)
    wrong = sum(count for _, count in failed)
    print(f"{len(outcome.answers):,} requests, {checked:,} answers looked into, {wrong:,} failed")
    for fault, count in failed[:FAULTS_SHOWN]:
        print(f"  {count:,} times {fault}")
    if not counted:
        print("no good answer came in the time that counts")
    return bool(counted) and not failed


def write_rows(groups: Sequence[Row], path: Path) -> None:
    """Write percentiles as CSV, times in milliseconds."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["candidates", "answers", *(f"p{p:g}_ms" for p in PERCENTILES)])
        writer.writerows([row.group, row.answers, *row.ms] for row in groups)


def _print_rows(groups: Sequence[Row]) -> None:
    heads = "".join(f"{f'p{p:g}':>10}" for p in PERCENTILES)
    print(f"  {'candidates':12}{'answers':>9}{heads}  ms")
    for row in groups:
        cells = "".join(f"{value:>10,.2f}" for value in row.ms)
        print(f"  {row.group:12}{row.answers:>9,}{cells}")


def _print_generator(outcome: Outcome, counted: Sequence[Answer], plan: Plan) -> None:
    rate = len(counted) / ((1 - WARM_UP) * plan.seconds)
    told = f"{rate:,.1f} answers/s"
    if plan.rate is not None and counted:
        late = percentiles([answer.late_ms for answer in counted])
        told += f" of {plan.rate:g} due; sent late by {late[0]:.2f} ms (p50), {late[2]:.2f} (p99)"
    print(f"{told}; Locust, which can use one core, used {outcome.cpu_share:.0%} of it")
