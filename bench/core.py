"""Decoded question to filled answer in one process: this checkout beside another, in turns.

Each answers from its own `file:` store, warm, in a process of its own; only one works at a time.
What a whole request passes is counted as well, in functions of gkc.

    python -m bench.core [CHECKOUT] [--save]
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from bench.checkouts import HERE, Checkout, GivenCheckout, other_checkout
from bench.options import Rounds, Save
from bench.processes import separate_cores
from bench.results import Figure, Section, tell
from bench.world import VERSION, Body, Shape, export, questions

PROGRAM: Final = Path(__file__).with_name("in_process.py")
SHAPE: Final = Shape(users=20_000, items=200_000)
QUESTIONS: Final = 200
WARM: Final = 20
F16: Final = {"dtype": "f16"}


@dataclass(frozen=True)
class Case:
    """One kind of question."""

    rows: int
    options: Mapping[str, str]
    target: float
    stretch: float | None = None


CASES: Final[Mapping[str, Case]] = {
    "B = 1": Case(1, F16, 0.30, 0.22),
    "B = 50": Case(50, F16, 0.30, 0.24),
    "B = 500": Case(500, F16, 0.45, 0.37),
    "B = 500, factored": Case(500, {"layout": "factored"}, 1.03),
    "B = 10,000": Case(10_000, F16, 1.03),
}
ROWS_COUNTED: Final = 500
MOST_CALLS: Final = 74
"""Half of what a request of 500 rows passed at 8b4fcbb."""


def main(other: GivenCheckout = None, *, rounds: Rounds = 15, save: Save = False) -> None:
    """Ask both in turns, and tell how their times compare."""
    before = other_checkout(other)
    cores, others = separate_cores()
    os.sched_setaffinity(0, others)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        processes = [
            stack.enter_context(answering(checkout, folder, cores)) for checkout in (HERE, before)
        ]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
        for number in range(rounds):
            for name, case in CASES.items():
                asked = {"measure": "seconds", "bodies": _bodies(case, number)}
                in_turn = processes if number % 2 else processes[::-1]
                seconds = {process: measured(process, asked) for process in in_turn}
                here, there = (seconds[process] for process in processes)
                times[name].append((here, there))
        counting = {"measure": "calls", "bodies": _bodies(CASES["B = 500"], 0)[: WARM + 1]}
        passed = [measured(process, counting) for process in processes]
    tell(section(times, *passed), save=save)


def measured(process: subprocess.Popen[str], measurement: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Have something measured by a process that runs `bench.in_process`.

    Raises
    ------
    SystemExit
        If the process ended instead.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    print(json.dumps(measurement), file=process.stdin, flush=True)
    for line in process.stdout:
        if line.startswith("found "):  # others are logged
            return json.loads(line.removeprefix("found "))
    raise SystemExit(f"ended: {process.args!r}")


@contextmanager
def answering(
    checkout: Checkout, folder: Path, cores: frozenset[int], shape: Shape = SHAPE
) -> Iterator[subprocess.Popen[str]]:
    """Export a shape into a store of the checkout's own, and answer from it until the block ends.

    The store lies in the folder, as does the bundle, which is shared.
    """
    store = f"file:{folder}/store-of-{checkout.root.name}"
    export(folder / "bundle", shape, store, checkout=checkout)
    process = subprocess.Popen(
        checkout.python(str(PROGRAM), store, VERSION),
        env=os.environ | checkout.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _bodies(case: Case, seed: int) -> list[Body]:
    count = max(QUESTIONS // max(1, case.rows // 500), 10)
    return questions(SHAPE, case.rows, count, seed, **case.options)


def section(
    times: Mapping[str, Sequence[tuple[float, float]]],
    here: Mapping[str, Any],
    there: Mapping[str, Any],
) -> Section:
    """Put what was found in the form that is told.

    ``times`` are seconds here and there in each round, by case; ``here`` and ``there`` are what a
    request of 500 rows passes.
    """
    figures = []
    for name, pairs in times.items():
        ratio = [here_s / there_s for here_s, there_s in pairs]
        bounds = CASES[name].target, CASES[name].stretch
        told = f"in process, {name}"
        figures += [
            Figure(f"{told}: time to the commit before", ratio, "times", *bounds, at_most=True),
            Figure(told, [1e6 * here_s for here_s, _ in pairs], "us"),
        ]
    passed, passed_there = (sum(count for _, count in side["ours"]) for side in (here, there))
    told = "functions of gkc that a request of 500 rows passes"
    figures.append(Figure(told, [float(passed)], "", MOST_CALLS, at_most=True, digits=0))
    return Section(
        module="bench.core",
        title="The core, in process",
        method=(
            f"From a decoded question to its filled answer, CPU time, on one core, from a `file:` "
            f"store of {SHAPE.users:,} users and {SHAPE.items:,} items, f16, D = {SHAPE.dim}, "
            f"warm: this checkout and the commit before, each in a process and on a store of its "
            f"own, in turns. A round's time is the median of its questions. *Functions*: Python "
            f"functions entered by one warm request, without sockets (`python -m bench.calls` "
            f"names them)."
        ),
        figures=figures,
        notes=[f"At the commit before, a request of 500 rows passed {passed_there} functions."],
    )


if __name__ == "__main__":
    typer.run(main)
