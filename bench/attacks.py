"""What a one-row client sees of a worker that others attack, and how much memory a burst takes.

    python -m bench.attacks [--save]

About 4 minutes.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final

import typer

from bench.arrivals import Answers, offer
from bench.attackers import ATTACKS, BEGUN, HEAVY_USERS, body_of, post
from bench.checkouts import HERE
from bench.load import Ask
from bench.options import Rounds, Save, Seconds
from bench.processes import Server, pinned
from bench.results import Figure, Section, tell
from bench.stage import Stage, in_turns, ratios
from bench.world import Shape, export, questions

SHAPE: Final = Shape(users=2_000, items=20_000, dim=192)
HEAVY: Final = Shape(users=HEAVY_USERS, items=20_000, pairs=400, categories=400)
QUIET: Final = "nobody, `file:`"
QUIET_REDIS: Final = "nobody, Redis"
ON_REDIS: Final = (
    QUIET_REDIS,
    "60 callers who hang up",
    "512 connections of 500 rows",
    "12 questions for 2,000 heavy users",
)
"""Where reading users is part of it; the others are of a `file:` store."""
WITHOUT_WORK: Final = ("1,000 idle connections", "100 callers who read nothing")
"""Attacks that take no time of the worker are to make nobody wait for longer."""
RATE: Final = 200.0
QUESTIONS: Final = 1_000
REST_SECONDS: Final = 0.05
"""A service that takes no longer for a row has done with the attack before."""
BURST: Final = 100
BURST_ROWS: Final = 10_000
AFTER_SECONDS: Final = 10.0
MB_OF_MIB: Final = 1.048576

METHOD: Final = f"""\
One worker. A client asks for one row {RATE:g} times a second (Poisson arrivals, safetensors), \
beside nobody and beside each attack in turns; latency counts from when a request was due. An \
attack is in place before, and goes on all the while: one body after the other on a connection, \
as often as it is refused, or as many connections at once as its name says. The store is `file:` \
(D = {SHAPE.dim}); it is Redis (D = {HEAVY.dim}, {HEAVY.pairs} pairs a user, so that \
{HEAVY_USERS:,} users are 109 MB) for {"; ".join(ON_REDIS[1:])}. The service has a core of its \
own; the client, Redis and the attackers share the other one, and the attackers run when neither \
of the others wants to (SCHED_IDLE). The burst is {BURST} questions at once for {BURST_ROWS:,} \
rows of {4 * SHAPE.dim} numbers as JSON to a service of its own, each read as fast as it comes; \
memory is that of parent and worker (PSS)."""


@dataclass(frozen=True)
class Burst:
    """Growth of a service's memory in MB, and how its questions were answered."""

    peak_mb: float
    after_mb: float
    statuses: Mapping[int, int]


def main(*, rounds: Rounds = 3, seconds: Seconds = 2, save: Save = False) -> None:
    """Attack, and tell what a client saw."""
    with Stage() as stage:
        embedded, redis = f"file:{stage.folder}/store", stage.redis().redis_url()
        asked = {}
        for store, shape in ((embedded, SHAPE), (redis, HEAVY)):
            export(stage.folder / f"bundle-{shape.pairs}", shape, store)
            bodies = stage.write(f"bodies-{shape.pairs}", questions(shape, 1, QUESTIONS, seed=0))
            asked[store] = Ask(stage.serve(store), bodies)
        measures = {}
        for name in (QUIET, QUIET_REDIS, *ATTACKS):
            store = redis if name in ON_REDIS else embedded
            measures[name] = partial(measure, asked[store], name, stage.other_cores, seconds)
        found = in_turns(measures, rounds)
        burst = measure_burst(stage.serve(embedded))
    tell(section(found, burst), save=save)


def measure(asked: Ask, attack: str, cores: Collection[int], seconds: float) -> Answers:
    """Ask for single rows beside an attack, or beside nobody, once the service is at rest."""
    while seconds_of_row(asked.server) > REST_SECONDS:
        time.sleep(REST_SECONDS)
    with attacking(attack, asked.server, cores) if attack in ATTACKS else nullcontext():
        return offer(asked, cores, seconds=seconds, rate=RATE)


def seconds_of_row(server: Server) -> float:
    """Return how long a service takes for one row."""
    began = time.monotonic()
    post(server.port, body_of(1))
    return time.monotonic() - began


@contextmanager
def attacking(name: str, server: Server, cores: Collection[int]) -> Iterator[None]:
    """Attack a server until the block ends, from these cores when nobody else wants them.

    Raises
    ------
    SystemExit
        If the attack ends by itself.
    """
    attacker = HERE.module("bench.attackers", name, str(server.port))
    with subprocess.Popen(
        pinned(cores, ["chrt", "--idle", "0", *attacker]),
        stdout=subprocess.PIPE,
        env=os.environ | HERE.environment,
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != BEGUN:
                raise SystemExit(f"the attack did not begin, see above: {name}")
            yield
            if process.poll() is not None:
                raise SystemExit(f"the attack ended by itself, see above: {name}")
        finally:
            process.kill()


def measure_burst(server: Server) -> Burst:
    """Ask for many large answers at once."""
    body = body_of(BURST_ROWS)
    post(server.port, body_of(1))
    before = peak = server.proportional_mib()
    with ThreadPoolExecutor(BURST) as pool:
        asked = [pool.submit(post, server.port, body) for _ in range(BURST)]
        while not all(answer.done() for answer in asked):
            peak = max(peak, server.proportional_mib())
            time.sleep(0.02)
    statuses = Counter(answer.result() for answer in asked)
    time.sleep(AFTER_SECONDS)
    after = server.proportional_mib()
    return Burst((peak - before) * MB_OF_MIB, (after - before) * MB_OF_MIB, statuses)


def section(found: Mapping[str, Sequence[Answers]], burst: Burst) -> Section:
    """Put what was found in the form that is told: by who was there beside, of each round."""
    at_most = partial(Figure, at_most=True)
    p99 = {name: [each.latency_ms(99) for each in several] for name, several in found.items()}
    longest = {name: [each.latency_ms(100) for each in several] for name, several in found.items()}
    late = {name: [each.late_ms(99) for each in several] for name, several in found.items()}
    failed = {name: [float(each.failed) for each in several] for name, several in found.items()}
    figures = [
        at_most("one-row requests that failed, at most", worst(failed), "", target=0, digits=0),
        at_most("their p99 beside the worst attack", worst(p99), "ms", target=50),
        at_most("the longest of them", worst(longest), "ms", target=500),
    ]
    figures += [
        at_most(f"p99 beside {name}, to nobody", ratios(p99[name], p99[QUIET]), target=2)
        for name in WITHOUT_WORK
    ]
    figures += [
        at_most("memory that a burst takes", [burst.peak_mb], "MB", target=300, digits=0),
        at_most(f"of that {AFTER_SECONDS:g} s later", [burst.after_mb], "MB", target=60, digits=0),
    ]
    for name in found:
        figures += [
            Figure(f"{name}: p99", p99[name], "ms"),
            Figure(f"{name}: longest", longest[name], "ms"),
        ]
    figures.append(Figure("the client itself was late, p99, at worst", worst(late), "ms"))
    notes = [
        f"Beside {name} one-row requests were answered: {told(Counter(statuses(several)))}."
        for name, several in found.items()
        if any(failed[name])
    ]
    return Section(
        module="bench.attacks",
        title="Beside callers who take more than their share",
        method=METHOD,
        figures=figures,
        notes=[*notes, f"The {BURST} questions of the burst: {told(burst.statuses)}."],
    )


def statuses(several: Sequence[Answers]) -> list[int]:
    """Return those of all answers."""
    return [status for each in several for status in each.records["status"].tolist()]


def told(counts: Mapping[int, int]) -> str:
    """Tell how many answers had which status, 0 being a lost connection."""
    return ", ".join(f"{count} by {status}" for status, count in sorted(counts.items()))


def worst(values: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the largest beside an attack, of each round."""
    beside = [each for name, each in values.items() if name in ATTACKS]
    return list(map(max, zip(*beside, strict=True)))


if __name__ == "__main__":
    typer.run(main)
