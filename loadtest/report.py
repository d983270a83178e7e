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

from loadtest.ceiling import CONCURRENCY, Ceiling
from loadtest.generator import Found
from loadtest.plan import (
    GROUPS,
    JSON,
    SAFETENSORS,
    Answer,
    Plan,
    Step,
    group_of,
    is_counted,
    throughput,
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


class StepRow(NamedTuple):
    """A step of a rising test."""

    models: int
    rate: float
    """Answers per second."""
    ms: Sequence[float]
    """``PERCENTILES`` of all answers; none if there were no answers."""
    generator: float
    """Locust's CPU time, as a share of a core."""


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


def good(found: Found, step: int, plan: Plan) -> list[Answer]:
    """Return a step's answers that count and did not fail."""
    return [
        answer
        for answer in found.answers
        if answer.step == step and not answer.fault and is_counted(answer, plan.seconds)
    ]


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


def step_rows(found: Found, plan: Plan) -> list[StepRow]:
    """Return throughput and percentiles of every step that was taken."""
    return [_step_row(found, plan, at, step) for at, step in enumerate(found.steps)]


def best_step(steps: Sequence[StepRow]) -> int:
    """Return which step had the highest throughput."""
    return max(range(len(steps)), key=lambda at: steps[at].rate)


def faults(answers: Sequence[Answer]) -> list[tuple[str, int]]:
    """Return what failed, most frequent first, and how many times."""
    return Counter(answer.fault for answer in answers if answer.fault).most_common()


def print_report(found: Found, plan: Plan, ceilings: Sequence[Ceiling], table: Path) -> bool:
    """Print what a load test found.

    Parameters
    ----------
    found : Found
        One step at least.
    plan : Plan
        What was to be done.
    ceilings : sequence of Ceiling
        What the generator itself can do.
    table : Path
        Where the percentiles are written as CSV.

    Returns
    -------
    bool
        Whether answers came, and none of them failed.
    """
    steps = step_rows(found, plan)
    best = best_step(steps)
    counted = good(found, best, plan)
    if len(plan.models) > 1:
        _print_steps(steps)
        print(
            f"ceiling: {steps[best].rate:,.0f} answers/s with {steps[best].models} models; of it:"
        )
    groups = rows(counted)
    _print_rows(groups)
    write_rows(groups, table)
    _print_generator(steps[best], counted, plan)
    if ceilings:
        print(f"{CONCURRENCY} requests at a time; below 1 the limit is Locust's, not the server's:")
    for ceiling in ceilings:
        print(f"  {ceiling.told}")
    failed = faults(found.answers)
    checked = sum(answer.checked for answer in found.answers)
    wrong = sum(count for _, count in failed)
    print(f"{len(found.answers):,} requests, {checked:,} answers looked into, {wrong:,} failed")
    for fault, count in failed[:FAULTS_SHOWN]:
        print(f"  {count:,} times {fault}")
    if not counted:
        print("no good answer came in the time that counts")
    return bool(counted) and not failed


def write_rows(found: Sequence[Row], path: Path) -> None:
    """Write percentiles as CSV, times in milliseconds."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["candidates", "answers", *(f"p{p:g}_ms" for p in PERCENTILES)])
        writer.writerows([row.group, row.answers, *row.ms] for row in found)


def _step_row(found: Found, plan: Plan, at: int, step: Step) -> StepRow:
    times = [answer.ms for answer in good(found, at, plan)]
    return StepRow(
        step.models,
        throughput(found.answers, at, plan.seconds),
        percentiles(times) if times else (),
        step.cpu_seconds / step.seconds,
    )


def _print_steps(found: Sequence[StepRow]) -> None:
    print(f"  {'models':>6}{'answers/s':>11}{_heads()}  ms{'Locust':>10}")
    for row in found:
        cells = f"{row.models:>6}{row.rate:>11,.0f}{_cells(row.ms)}"
        print(f"  {cells}{row.generator:>12.0%} of a core")


def _print_rows(found: Sequence[Row]) -> None:
    print(f"  {'candidates':12}{'answers':>9}{_heads()}  ms")
    for row in found:
        print(f"  {row.group:12}{row.answers:>9,}{_cells(row.ms)}")


def _print_generator(step: StepRow, counted: Sequence[Answer], plan: Plan) -> None:
    told = f"Locust, which can use one core, used {step.generator:.0%} of it"
    if plan.rate is not None and counted:
        late = percentiles([answer.late_ms for answer in counted])
        told += f"; {step.rate:,.1f} answers/s of {plan.rate:g} due; sent late by"
        told += f" {late[0]:.2f} ms (p50), {late[2]:.2f} ms (p99)"
    print(told)


def _heads() -> str:
    return "".join(f"{f'p{p:g}':>10}" for p in PERCENTILES)


def _cells(ms: Sequence[float]) -> str:
    return "".join(f"{value:>10,.2f}" for value in ms) or f"{'-':>10}" * len(PERCENTILES)
