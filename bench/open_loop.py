"""Latency when callers do not wait for each other: Poisson arrivals at shares of the capacity.

Capacity is what wrk gets out of the service with four connections in the same round.

    python -m bench.open_loop [--save]
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import typer

from bench.arrivals import Answers, offer, perfect_latencies
from bench.load import CONCURRENCY, Ask
from bench.options import Rounds, Save, Seconds
from bench.results import Curve, Figure, Section, tell
from bench.stage import Stage
from bench.world import Shape

SHAPE: Final = Shape(users=20_000)
ROWS: Final = 500
SHARES: Final = (0.3, 0.5, 0.7, 0.8, 0.9)
JUDGED: Final = 0.7
QUESTIONS: Final = 2000

METHOD: Final = f"""\
One worker, real Redis, 1 user x {ROWS} items, safetensors f16 rows, drawn evenly. In each round \
wrk measures the capacity ({CONCURRENCY} connections, each asking again once it is answered); then \
requests arrive at shares of it, at times that know nothing of each other (Poisson), whether or \
not earlier ones have been answered. Latency counts from when a request was due, not from when it \
was sent: what the generator is late is part of it. The service has a core of its own; the \
generator and Redis share the other one. *Perfect server* is what the same arrivals would see of \
one that takes exactly 1 / capacity for each request."""


@dataclass(frozen=True)
class Round:
    """What one round found."""

    capacity: float
    """Answers per second by wrk."""
    answers: dict[float, Answers]
    """By share of the capacity."""

    def spread(self, share: float) -> float:
        """Return p99 over p50 at a share of the capacity."""
        return self.answers[share].latency_ms(99) / self.answers[share].latency_ms(50)

    def perfect_spread(self, share: float) -> float:
        """Return p99 over p50 that a perfect server would have had."""
        due = np.sort(self.answers[share].records["due_s"])
        p50, p99 = np.percentile(perfect_latencies(due, 1 / self.capacity), (50, 99))
        return float(p99 / p50)


def main(*, rounds: Rounds = 4, seconds: Seconds = 6, save: Save = False) -> None:
    """Measure latency at shares of the capacity."""
    with Stage() as stage:
        knowledge = stage.world(SHAPE)
        questions = knowledge.questions(ROWS, QUESTIONS, seed=0, dtype="f16")
        asked = Ask(stage.serve(knowledge.url), stage.write("rows", questions))
        stage.ask(asked, seconds=1)  # warms up
        measured = [measure(stage, asked, seconds, seed) for seed in range(rounds)]
    tell(section(measured), save=save)


def measure(stage: Stage, asked: Ask, seconds: int, seed: int) -> Round:
    """Measure the capacity, then so many seconds of arrivals at each share of it.

    Raises
    ------
    SystemExit
        If a request failed.
    """
    capacity = stage.ask(asked, max(1, seconds // 2)).rate
    by_share = {
        share: offer(asked, stage.other_cores, seconds=seconds, rate=share * capacity, seed=seed)
        for share in SHARES
    }
    failed = sum(answers.failed for answers in by_share.values())
    if failed:
        raise SystemExit(f"{failed} requests failed: what was measured is of no use")
    return Round(capacity, by_share)


def section(rounds: Sequence[Round]) -> Section:
    """Put what the rounds found in the form that is told."""
    judged = [each.answers[JUDGED] for each in rounds]
    late = [answers.late_ms(99) for answers in judged]
    p99 = [answers.latency_ms(99) for answers in judged]
    at = f"at {JUDGED:.0%} of capacity"
    return Section(
        module="bench.open_loop",
        title="Latency under an open model",
        method=METHOD,
        figures=[
            Figure(
                f"p99 {at}, B = {ROWS}, Poisson arrivals, against p50",
                [each.spread(JUDGED) for each in rounds],
                target=6,
                stretch=4.5,
                at_most=True,
            ),
            Figure(
                "the same of a perfect server, same arrivals",
                [each.perfect_spread(JUDGED) for each in rounds],
            ),
            Figure(f"p50 {at}", [answers.latency_ms(50) for answers in judged], "ms"),
            Figure(f"p99 {at}", p99, "ms"),
            Figure("capacity", [each.capacity for each in rounds], "a second", digits=0),
            Figure(f"the generator itself was late {at}, p99", late, "ms"),
        ],
        curves=[
            Curve(
                "open-loop",
                f"99 of 100 answers {at} take {statistics.median(p99):.1f} ms or less",
                *("arrivals, % of capacity", "latency from when a request was due, ms"),
                {
                    f"p{percent}": [
                        (100 * share, [each.answers[share].latency_ms(percent) for each in rounds])
                        for share in SHARES
                    ]
                    for percent in (50, 99)
                },
                log_y=True,
            )
        ],
    )


if __name__ == "__main__":
    typer.run(main)
