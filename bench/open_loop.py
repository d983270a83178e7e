"""Latency when callers do not wait for each other: Poisson arrivals at shares of the capacity.

Capacity is what wrk gets out of the service with four connections in the same round. The generator,
``bench.arrivals``, is checked against wrk there, and its own ceiling is measured on the server that
answers with nothing.

    python -m bench.open_loop [--save]
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.arrivals import Answers, offer, perfect_latencies
from bench.load import load, write_bodies
from bench.processes import Server, free_port, our_service, reference, separate_cores, serving
from bench.results import Curve, Figure, Section, tell
from bench.world import Shape, World, world

SAFETENSORS = "application/x-safetensors"
ROWS = 500
CONCURRENCY = 4
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9)
JUDGED = 0.7
QUESTIONS = 2000
CEILING_STEPS = (0.5, 1.0, 2.0, 4.0)
"""Rates offered to the empty server, times what wrk gets out of it."""
CEILING_TRIES = 3
"""So often a rate is offered before it counts as one that the generator does not keep to."""
CEILING_SECONDS = 1
"""How long each of them is offered."""
KEPT_MS = 1.0
"""A generator keeps its schedule if 99 of 100 requests are no later than this."""

METHOD = f"""\
One worker, real Redis, 1 user x {ROWS} items, safetensors f16 rows, drawn evenly. In each round \
wrk measures the capacity ({CONCURRENCY} connections, each asking again once it is answered); then \
requests arrive at shares of it, at times that know nothing of each other (Poisson), whether or \
not earlier ones have been answered. Latency counts from when a request was due, not from when it \
was sent. The service has a core of its own; the generator and Redis share the other one. *Perfect \
server* is what the same arrivals would see of one that takes exactly 1 / capacity for each \
request."""


@dataclass(frozen=True)
class Round:
    """What one round found."""

    capacity: float
    """Answers per second by wrk."""
    closed_rate: float
    """The same by our generator, times wrk's."""
    closed_p50: float
    """p50 of the same, times wrk's."""
    answers: dict[float, Answers]
    """By share of the capacity."""
    ceiling: float
    """Requests per second at which the generator still keeps its schedule."""

    def spread(self, share: float) -> float:
        """Return p99 over p50 at a share of the capacity."""
        return self.answers[share].latency_ms(99) / self.answers[share].latency_ms(50)

    def perfect_spread(self, share: float) -> float:
        """Return p99 over p50 that a perfect server would have had."""
        due = np.sort(self.answers[share].records["due_s"])
        p50, p99 = np.percentile(perfect_latencies(due, 1 / self.capacity), (50, 99))
        return float(p99 / p50)


def measure(
    service: Server,
    empty: Server,
    bodies: Path,
    cores: Collection[int],
    seconds: int,
    seed: int,
) -> Round:
    """Measure one round.

    Parameters
    ----------
    service : Server
        Ours.
    empty : Server
        The one that answers with nothing.
    bodies : Path
        Requests.
    cores : collection of int
        Cores of the load.
    seconds : float
        How long requests arrive at each share of the capacity; half as long for the rest.
    seed : int
        Of the arrivals.

    Returns
    -------
    Round
        What was found.

    Raises
    ------
    SystemExit
        If a request failed.
    """
    half = max(1, seconds // 2)
    wrk = load(service, bodies, SAFETENSORS, cores, concurrency=CONCURRENCY, seconds=half)
    closed = offer(service, bodies, SAFETENSORS, cores, seconds=half, connections=CONCURRENCY)
    found = {
        share: offer(
            service,
            bodies,
            SAFETENSORS,
            cores,
            seconds=seconds,
            rate=share * wrk.rate,
            seed=seed,
        )
        for share in SHARES
    }
    _refuse(wrk.failed + closed.failed + sum(answers.failed for answers in found.values()))
    return Round(
        capacity=wrk.rate,
        closed_rate=closed.rate / wrk.rate,
        closed_p50=closed.latency_ms(50) / wrk.p50_ms,
        answers=found,
        ceiling=find_ceiling(empty, bodies, cores, CEILING_SECONDS, seed),
    )


def find_ceiling(
    empty: Server, bodies: Path, cores: Collection[int], seconds: int, seed: int
) -> float:
    """Return the highest rate, of the steps tried, that the generator keeps to.

    Parameters
    ----------
    empty : Server
        Who is asked.
    bodies : Path
        Requests.
    cores : collection of int
        Cores of the load.
    seconds : float
        How long each step lasts.
    seed : int
        Of the arrivals.

    Returns
    -------
    float
        Requests per second; 0 if it keeps to none.

    Raises
    ------
    SystemExit
        If a request failed.
    """
    wrk = load(empty, bodies, SAFETENSORS, cores, concurrency=CONCURRENCY, seconds=seconds)
    _refuse(wrk.failed)

    def is_kept(rate: float) -> bool:
        answers = offer(empty, bodies, SAFETENSORS, cores, seconds=seconds, rate=rate, seed=seed)
        _refuse(answers.failed)
        return answers.late_ms(99) <= KEPT_MS

    kept = 0.0
    for step in CEILING_STEPS:
        # A machine that stands still for a moment says nothing of the generator: try again.
        if not any(is_kept(step * wrk.rate) for _ in range(CEILING_TRIES)):
            break
        kept = step * wrk.rate
    return kept


def _refuse(failed: int) -> None:
    if failed:
        raise SystemExit(f"{failed} requests failed: what was measured is of no use")


def section(rounds: Sequence[Round]) -> Section:
    """Put what the rounds found in the form that is told."""
    judged = [found.answers[JUDGED] for found in rounds]
    latency: dict[str, dict[float, list[float]]] = defaultdict(dict)
    tail: dict[str, dict[float, list[float]]] = defaultdict(dict)
    for share in SHARES:
        at = 100 * share
        for percent in (50, 99):
            times = [found.answers[share].latency_ms(percent) for found in rounds]
            latency[f"p{percent}"][at] = times
        tail["the service"][at] = [found.spread(share) for found in rounds]
        tail["a perfect server"][at] = [found.perfect_spread(share) for found in rounds]
    late = [answers.late_ms(99) / answers.latency_ms(50) for answers in judged]
    return Section(
        module="bench.open_loop",
        title="Latency under an open model",
        method=METHOD,
        figures=(
            Figure(
                f"p99 at {JUDGED:.0%} of capacity, B = {ROWS}, Poisson arrivals, against p50",
                [found.spread(JUDGED) for found in rounds],
                target=6,
                stretch=4.5,
                at_most=True,
            ),
            Figure(
                "the same of a perfect server, same arrivals",
                [found.perfect_spread(JUDGED) for found in rounds],
            ),
            Figure(
                f"p50 at {JUDGED:.0%} of capacity", [a.latency_ms(50) for a in judged], unit="ms"
            ),
            Figure(
                f"p99 at {JUDGED:.0%} of capacity", [a.latency_ms(99) for a in judged], unit="ms"
            ),
            Figure("capacity", [found.capacity for found in rounds], unit="a second", digits=0),
            Figure(
                "our generator closed against wrk: throughput",
                [found.closed_rate for found in rounds],
            ),
            Figure("our generator closed against wrk: p50", [f.closed_p50 for f in rounds]),
            Figure(
                "rate that the generator keeps to, empty server, against the capacity",
                [found.ceiling / found.capacity for found in rounds],
            ),
            Figure(
                "the same", [found.ceiling for found in rounds], unit="requests a second", digits=0
            ),
            Figure(f"generator late at {JUDGED:.0%} of capacity, p99, against p50", late),
        ),
        curves=(
            _curve("open-loop-latency", "latency from when a request was due, ms", latency),
            _curve("open-loop-tail", "p99 / p50", tail),
        ),
        notes=(
            f"The generator keeps its schedule if 99 of 100 requests are sent within {KEPT_MS:g} "
            f"ms of when they are due, in one try of {CEILING_TRIES}. It is tried up to "
            f"{max(CEILING_STEPS):g} times what wrk gets out of the empty server: at that figure, "
            f"its ceiling is higher still.",
            "Whatever the generator is late is part of the latencies above.",
        ),
        packages=("uvloop",),
    )


def _curve(name: str, y: str, lines: dict[str, dict[float, list[float]]]) -> Curve:
    return Curve(
        name=name,
        title=f"Open model, B = {ROWS}",
        x="arrivals, % of capacity",
        y=y,
        lines={line: list(points.items()) for line, points in lines.items()},
        log_y=True,
    )


def main(
    save: Annotated[bool, typer.Option("--save", help="Keep the result for the page.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Repeats.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Of arrivals at each share.")] = 6,
    users: Annotated[int, typer.Option(help="Users.")] = Shape.users,
    items: Annotated[int, typer.Option(help="Items.")] = Shape.items,
) -> None:
    """Measure latency at shares of the capacity."""
    core, others = separate_cores()
    shape = Shape(users=users, items=items)
    with tempfile.TemporaryDirectory() as scratch, world(Path(scratch), shape, others) as made:
        port, empty_port = free_port(), free_port()
        command = our_service(made.url, port)
        mirrors = {"GKC_MIRROR_DIR": f"{scratch}/mirrors"}
        with (
            serving("gkc serve", command, port, core, "/readyz", mirrors) as service,
            serving("empty", reference("empty", empty_port), empty_port, core) as empty,
        ):
            bodies = _bodies(made)
            measure(service, empty, bodies, others, seconds=1, seed=0)  # warms up
            found = [
                measure(service, empty, bodies, others, seconds, seed)
                for seed in range(1, rounds + 1)
            ]
    tell(section(found), save=save)


def _bodies(made: World) -> Path:
    questions = made.questions(ROWS, QUESTIONS, seed=0)
    return write_bodies([body | {"dtype": "f16"} for body in questions], made.folder / "bodies")


if __name__ == "__main__":
    typer.run(main)
