"""Beyond the capacity: how much is still served, how late, and what a refusal costs.

    python -m bench.overload [--save]

About 3 minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import typer

from bench.arrivals import Answers, offer
from bench.exchange import counted
from bench.load import CONCURRENCY, Ask, Load, load
from bench.options import Rounds, Save, Seconds
from bench.processes import Server
from bench.results import Figure, Section, tell
from bench.stage import Stage
from bench.world import Shape

SHAPE: Final = Shape(users=20_000, items=100_000)
ROWS: Final = 500
QUESTIONS: Final = 2000
CONNECTIONS: Final = 1024
"""More than are under way at any time, or it would be these that hold requests back."""
DEADLINE_MS: Final = 1000
LATE_MS: Final = 50
"""How much later than its deadline an answer may come."""
P99_MS: Final = 50.0
SERVED: Final = 0.99
BRACKET: Final = (0.2, 1.2)
"""Where the capacity is looked for, as shares of what wrk gets."""
HALVINGS: Final = 6
TIMES: Final = (2, 3)
BUSY: Final = 0.7
EASY: Final = 0.5
RECOVERY_SECONDS: Final = 2.0
GREEDY: Final = 512
"""Callers who ask again as soon as they are refused."""

METHOD: Final = f"""\
One worker, real Redis, 1 user x {ROWS} items, safetensors f16 rows, drawn evenly; Poisson \
arrivals on up to {CONNECTIONS:,} connections, each request with `X-Request-Timeout-Ms: \
{DEADLINE_MS}`. The capacity is the highest rate at which {SERVED:.0%} are served and their p99 is \
at most {P99_MS:g} ms, found by {HALVINGS} halvings between {BRACKET[0]:g} and {BRACKET[1]:g} \
times what wrk gets ({CONCURRENCY} connections) in the same round. Goodput is what is served of \
what was due in an overload, a second. What a served request costs, and a refusal, follows from \
the CPU time of the worker in both overloads and beside {GREEDY} greedy callers: those of wrk, who \
ask again at once. Where a refusal costs \u03c1 of a served one, a worker that does nothing else \
could serve (1 - k \u03c1) / (1 - \u03c1) of its capacity at k times it. Latency counts from when \
a request was due. An answer is late if it comes more than {LATE_MS} ms after the deadline of its \
request, counted from when it was sent. The service has a core of its own; the generator and \
Redis share the other one."""


@dataclass(frozen=True)
class Round:
    """What one round found."""

    wrk_rate: float
    capacity: float
    cost: float
    """CPU time of a refusal to that of a request that is served."""
    busy: Answers
    easy: Answers
    greedy: Load
    beyond: Mapping[int, Answers]
    """By how many times the capacity was offered."""
    seconds: float
    """Of each load."""
    not_refused: float
    """Requests beyond the capacity, or after it, neither served nor counted as refused."""
    recovered: Answers
    """To what was due at the easy rate once the time to recover had passed."""

    def goodput(self, times: int) -> float:
        """Return what was served at so many times the capacity, of the capacity."""
        return len(self.beyond[times].served.records) / self.seconds / self.capacity

    def margin(self, times: int) -> float:
        """Return how far that is above what a worker that only serves and refuses could do."""
        possible = max(0.0, 1 - times * self.cost) / (1 - self.cost)
        return self.goodput(times) - possible

    def slowdown(self, times: int) -> float:
        """Return the p99 of what was served beyond the capacity, to that of a busy worker."""
        return self.beyond[times].served.latency_ms(99) / self.busy.latency_ms(99)


def main(*, rounds: Rounds = 3, seconds: Seconds = 4, save: Save = False) -> None:
    """Find the capacity, and offer several times as much."""
    with Stage() as stage:
        knowledge = stage.world(SHAPE)
        questions = knowledge.questions(ROWS, QUESTIONS, seed=0, dtype="f16")
        asked = Ask(stage.serve(knowledge.url), stage.write("rows", questions))
        stage.ask(asked, seconds=1)  # warms up
        measured = [measure(stage, asked, seconds, seed) for seed in range(rounds)]
    tell(section(measured), save=save)


def measure(stage: Stage, asked: Ask, seconds: float, seed: int) -> Round:
    """Measure the capacity, below it, beyond it, and after that."""
    time.sleep(RECOVERY_SECONDS)  # the greedy callers of the round before were just here
    server, wrk = asked.server, stage.ask(asked, max(1, int(seconds)))
    offered = partial(
        offer,
        *(asked, stage.other_cores),
        seconds=seconds,
        seed=seed,
        connections=CONNECTIONS,
        deadline_ms=DEADLINE_MS,
    )
    capacity = find_capacity(lambda rate: offered(rate=rate), wrk.rate)
    busy, easy = offered(rate=BUSY * capacity), offered(rate=EASY * capacity)
    rejected, cpu, beyond = rejections(server), [], {}
    for times in TIMES:
        before = server.cpu_seconds()
        beyond[times] = offered(rate=times * capacity)
        cpu.append(server.cpu_seconds() - before)
    most = beyond[TIMES[-1]]
    recovered = float(most.records["due_s"].max()) + RECOVERY_SECONDS
    after = offered(rate=EASY * capacity, seconds=seconds + RECOVERY_SECONDS)
    failed = sum(answers.failed for answers in (*beyond.values(), after))
    not_refused = failed - (rejections(server) - rejected)
    greedy = load(replace(asked, concurrency=GREEDY), stage.other_cores, max(1, int(seconds)))
    counts = [(len(answers.served.records), answers.failed) for answers in beyond.values()]
    counts.append((greedy.requests - greedy.failed, greedy.failed))
    cpu.append(greedy.cpu_ms * greedy.requests / 1000)
    (served, refused), *_ = np.linalg.lstsq(np.array(counts), np.array(cpu), rcond=None)
    return Round(
        wrk_rate=wrk.rate,
        capacity=capacity,
        cost=float(refused / served),
        busy=busy,
        easy=easy,
        greedy=greedy,
        beyond=beyond,
        seconds=seconds,
        not_refused=not_refused,
        recovered=after.due_within(recovered, math.inf),
    )


def find_capacity(offered: Callable[[float], Answers], wrk_rate: float) -> float:
    """Return the highest rate found at which nearly all is served in time.

    Raises
    ------
    SystemExit
        If every rate that was tried is too high.
    """
    low, high = lowest, _ = [share * wrk_rate for share in BRACKET]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_carried(offered(middle)) else (low, middle)
    if low == lowest:
        raise SystemExit(f"{high:,.0f} requests a second, of {wrk_rate:,.0f} by wrk, are too many")
    return low


def is_carried(answers: Answers) -> bool:
    """Tell whether nearly all is served, and in time."""
    served = answers.served
    enough = len(served.records) >= SERVED * len(answers.records)
    return enough and served.latency_ms(99) <= P99_MS


def rejections(server: Server) -> float:
    """Return how many requests a service has refused so far because it had too many."""
    return counted(server, "gkc_rejected_total", reason="overloaded")


def late(answers: Answers) -> int:
    """Count the answers that came too long after their request's deadline."""
    waited = answers.records["latency_s"] - answers.records["late_s"]
    return int(np.count_nonzero(1000 * waited > DEADLINE_MS + LATE_MS))


def section(rounds: Sequence[Round]) -> Section:
    """Put what the rounds found in the form that is told."""
    at_most = partial(Figure, at_most=True)
    count = partial(at_most, unit="", target=0, digits=0)
    figures = [
        at_most("a refusal's CPU time to a served request's", [r.cost for r in rounds], target=0.12)
    ]
    for times in TIMES:
        at = f"at {times} times the capacity"
        figures += [
            Figure(f"goodput {at}, of the capacity", [r.goodput(times) for r in rounds]),
            Figure(
                f"the same above (1 - k\u03c1) / (1 - \u03c1), k = {times}",
                [r.margin(times) for r in rounds],
                target=-0.05,
            ),
            at_most(
                f"p99 of what is served {at} to that at {BUSY:.0%}",
                [r.slowdown(times) for r in rounds],
                target=3,
            ),
            count(f"late answers {at}", [float(late(r.beyond[times])) for r in rounds]),
        ]
    greedy = [(r.greedy.requests - r.greedy.failed) / r.greedy.seconds for r in rounds]
    recovered = [r.recovered.latency_ms(99) / r.easy.latency_ms(99) for r in rounds]
    lateness = [r.beyond[TIMES[-1]].late_ms(99) for r in rounds]
    figures += [
        count("not served and not refused as overloaded", [r.not_refused for r in rounds]),
        at_most(
            f"p99 at {EASY:.0%}, {RECOVERY_SECONDS:g} s after that, to before",
            recovered,
            target=1.5,
        ),
        Figure(
            f"served to {GREEDY} greedy callers, of the capacity",
            [rate / r.capacity for rate, r in zip(greedy, rounds, strict=True)],
        ),
        Figure("capacity", [r.capacity for r in rounds], "a second", digits=0),
        Figure("capacity to what wrk gets", [r.capacity / r.wrk_rate for r in rounds]),
        Figure(f"p99 at {BUSY:.0%} of the capacity", [r.busy.latency_ms(99) for r in rounds], "ms"),
        Figure(f"the generator was late at {TIMES[-1]} times, p99", lateness, "ms"),
    ]
    return Section(
        module="bench.overload", title="Beyond the capacity", method=METHOD, figures=figures
    )


if __name__ == "__main__":
    typer.run(main)
