"""What is still answered while Redis is away, from the records that a worker holds.

    python -m bench.outage [--save]

About 4 minutes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from zlib import crc32

import numpy as np
import typer
from numpy.typing import NDArray

from bench.arrivals import Answers, offering
from bench.bundles import USER_ID_STEP
from bench.exchange import counted, post
from bench.load import Ask
from bench.options import Save, Seconds
from bench.processes import Server
from bench.results import Figure, Section, tell
from bench.stage import Stage
from bench.world import VERSION, Body, Shape, World, questions
from gkc import Client
from gkc.knowledge import SAFETENSORS
from loadtest.traffic import zipf_ranks

SHAPE: Final = Shape(users=100_000, items=10_000, pairs=20)
ROWS: Final = 50
ALL_MB: Final = (8, 32, 64, 128, 256)
MB: Final = 64
"""Of the cache of the worker whose Redis goes away."""
QUESTIONS: Final = 32_000
"""More than are asked in one outage: one that came again would find its user more often."""
WARM: Final = 300
WARM_USERS: Final = 500
RATE: Final = 400.0
CONNECTIONS: Final = 256
QUIET_SECONDS: Final = 15
LONGEST_SECONDS: Final = 3600
FIRST_SECONDS: Final = 2
"""So long it may take until it is known that the store is away, or back."""
TABLE_SECONDS: Final = 3
ALLOW_STALE: Final = 300
STATUS_COLUMNS: Final = 4
COUNTED_SECONDS: Final = 0.5
"""After so long, a worker has told of what it counted."""
OUTAGES: Final = {"stopped": signal.SIGSTOP, "killed": signal.SIGKILL}
"""The last one is for good."""

METHOD: Final = f"""\
One worker with `GKC_USER_CACHE_MB`, real Redis, {SHAPE.users:,} users with {SHAPE.pairs} pairs \
each (2.7 KB a record, all together 300 MB as the cache counts them). A question is 1 user x \
{ROWS} items, safetensors f16 rows, with `"allow_stale": {ALLOW_STALE}`; users are drawn by Zipf's \
law with exponent 1 (the user of rank k in proportion to 1 / k), each question anew. The cache is \
filled by {WARM * WARM_USERS:,} draws by the same law. *Hit rate* is told by the service's \
`gkc_user_cache_records_total`. Then {RATE:g} questions a second (Poisson arrivals) to a worker \
with {MB} MB: for {QUIET_SECONDS} s as usual, and then Redis gets SIGSTOP, or SIGKILL. What is \
answered meanwhile with 200 is compared, by CRC-32 of statuses and vectors, with what \
`gkc.Client` read from the store before; refusals are 503. Latency counts from when a question was \
due, of those answered with 200; the longest wait is that of all."""


@dataclass(frozen=True)
class Outage:
    """What was answered before Redis went away, and while it was."""

    hit_rate: float
    """Of the records asked for before."""
    usual: Answers
    without: Answers
    wrong: int
    """Answers that are not what the store held."""

    @property
    def answered(self) -> float:
        """Share of what was asked while Redis was away."""
        return len(self.without.served.records) / len(self.without.records)


def main(*, seconds: Seconds = 60, save: Save = False) -> None:
    """Fill caches, and take Redis away for so many seconds, twice."""
    with Stage() as stage:
        knowledge = stage.world(SHAPE)
        rates = {mb: table_rate(knowledge, mb, TABLE_SECONDS) for mb in ALL_MB}
        service = warm_service(stage, knowledge, MB)
        prepared = {
            name: (stage.write(name, bodies), sums_of(knowledge.url, bodies))
            for seed, name in enumerate(OUTAGES)
            for bodies in [zipf_questions(SHAPE, QUESTIONS, seed)]
        }
        outages = {}
        for name, how in OUTAGES.items():
            time.sleep(FIRST_SECONDS)  # by then it is known that Redis is back
            bodies, sums = prepared[name]
            cores, redis = stage.other_cores, knowledge.redis
            outages[name] = take_away(redis, how, Ask(service, bodies), cores, seconds, sums)
    tell(section(rates, outages, seconds), save=save)


def zipf_questions(shape: Shape, count: int, seed: int) -> list[Body]:
    """Draw questions whose users follow Zipf's law."""
    ranks = zipf_ranks(np.random.default_rng(seed), shape.users, count)
    bodies = questions(shape, ROWS, count, seed, dtype="f16")
    return [
        {**body, "u": user, "allow_stale": ALLOW_STALE}
        for body, user in zip(bodies, (ranks * USER_ID_STEP).tolist(), strict=True)
    ]


def warm_service(stage: Stage, knowledge: World, mb: int) -> Server:
    """Serve with a cache of so many MB, and let it read users by the same law."""
    service = stage.serve(knowledge.url, environment={"GKC_USER_CACHE_MB": str(mb)})
    ranks = zipf_ranks(np.random.default_rng(99), knowledge.shape.users, WARM * WARM_USERS)
    for users in (ranks * USER_ID_STEP).reshape(WARM, WARM_USERS).tolist():
        post(service, {"u": users, "i": 0, "v": VERSION, "parts": ["user"]}, SAFETENSORS)
    return service


def table_rate(knowledge: World, mb: int, seconds: int) -> float:
    """Return how often a cache of so many MB has the record that is asked for."""
    with Stage() as stage:
        service = warm_service(stage, knowledge, mb)
        bodies = stage.write("table", zipf_questions(knowledge.shape, QUESTIONS, seed=98))
        before = hits_and_misses(service)
        stage.ask(Ask(service, bodies), seconds)
        return hit_rate(before, hits_and_misses(service))


def hits_and_misses(service: Server) -> NDArray[np.float64]:
    """Return how many records its cache had so far, and how many not."""
    name = "gkc_user_cache_records_total"
    time.sleep(COUNTED_SECONDS)
    return np.array([counted(service, name, result=result) for result in ("hit", "miss")])


def hit_rate(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Return the share of hits among what was counted since."""
    hits, misses = after - before
    return float(hits / (hits + misses))


def sums_of(store: str, bodies: Sequence[Body]) -> NDArray[np.uint32]:
    """Return the CRC-32 of what a store holds for each question, in the order of an answer."""
    with Client(store, timeout=10) as client:
        known = []
        for body in bodies:
            asked = {name: body[name] for name in ("u", "v", "dtype")}
            answer = client.knowledge(**asked, i=np.array(body["i"]))
            known.append(crc32(answer.rows.tobytes(), crc32(answer.status.tobytes())))
    return np.array(known, dtype=np.uint32)


def take_away(
    redis: Server,
    how: signal.Signals,
    asked: Ask,
    cores: Collection[int],
    seconds: float,
    sums: NDArray[np.uint32],
) -> Outage:
    """Ask for a while as usual, and then without Redis; give it back if it was only stopped."""
    tail_bytes = ROWS * (2 * 4 * SHAPE.dim + STATUS_COLUMNS)
    with offering(
        *(asked, cores),
        seconds=LONGEST_SECONDS,
        rate=RATE,
        connections=CONNECTIONS,
        tail_bytes=tail_bytes,
    ) as offered:
        before = hits_and_misses(asked.server)
        began = time.monotonic()
        time.sleep(QUIET_SECONDS)
        usual = hit_rate(before, hits_and_misses(asked.server))
        os.kill(redis.pid, how)
        try:
            away = time.monotonic()
            time.sleep(seconds)
            ended = time.monotonic()
            answers = offered.stop()
        finally:
            if how == signal.SIGSTOP:
                os.kill(redis.pid, signal.SIGCONT)
    without = answers.due_within(away, ended)
    served = without.served.records
    wrong = int(np.count_nonzero(sums[served["request"]] != served["crc32"]))
    return Outage(usual, answers.due_within(began, away).served, without, wrong)


def section(rates: Mapping[int, float], outages: Mapping[str, Outage], seconds: float) -> Section:
    """Put what was found in the form that is told."""
    at_most = partial(Figure, at_most=True)
    figures = []
    for name, found in outages.items():
        p99 = found.without.served.latency_ms(99)
        away = found.without.records["due_s"].min()
        first = found.without.due_within(away, away + FIRST_SECONDS).served
        beyond = found.answered - found.hit_rate
        figures += [
            Figure(f"{name}: answered, above the hit rate before", [beyond], "", target=-0.02),
            at_most(
                f"{name}: p99 of what is answered, to usual",
                [p99 / found.usual.latency_ms(99)],
                target=2,
            ),
            at_most(f"{name}: wrong answers", [float(found.wrong)], "", target=0, digits=0),
            Figure(f"{name}: hit rate before", [found.hit_rate], "", digits=3),
            Figure(f"{name}: answered", [found.answered], "", digits=3),
            Figure(f"{name}: p99 before", [found.usual.latency_ms(99)], "ms"),
            Figure(f"{name}: p99 of what is answered", [p99], "ms"),
            Figure(f"{name}: of the first {FIRST_SECONDS} s", [first.latency_ms(99)], "ms"),
            Figure(f"{name}: longest wait", [found.without.latency_ms(100)], "ms", digits=0),
        ]
    figures += [
        Figure(f"hit rate with {mb} MB a worker", [rate], "", digits=3)
        for mb, rate in rates.items()
    ]
    late = max(found.without.late_ms(99) for found in outages.values())
    figures.append(Figure("the client itself was late, p99, at worst", [late], "ms"))
    asked = sum(len(found.without.records) for found in outages.values())
    return Section(
        module="bench.outage",
        title="While Redis is away",
        method=METHOD,
        figures=figures,
        notes=[f"Redis was away for {seconds:g} s each time; {asked:,} questions came meanwhile."],
    )


if __name__ == "__main__":
    typer.run(main)
