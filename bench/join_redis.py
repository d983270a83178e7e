"""A service while ``gkc join`` reads from its Redis, against the same service in quiet.

Requests arrive at a fixed share of the service's capacity (``bench.arrivals``), in a quiet span and
in one while a join reads users from the same Redis, no faster than it is told to.

    python -m bench.join_redis [--save]
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
import typer

from bench.arrivals import Answers, offer
from bench.generations import publish_numbers
from bench.join import join_command, write_table
from bench.load import Ask
from bench.options import Rounds, Save, Seconds
from bench.processes import pinned
from bench.results import Figure, Section, tell
from bench.stage import Stage, ratios
from bench.world import Shape, questions

SHAPE: Final = Shape(users=300_000, items=20_000, pairs=10)
RECORD_BYTES: Final = (1 + SHAPE.pairs) * 2 * SHAPE.dim + 8 * SHAPE.pairs
"""Of a user, about."""
READS_PER_SECOND: Final = 20_000
"""As docs/join.md has it."""
ROWS: Final = 600_000
CANDIDATES: Final = 500
BODIES: Final = 1_000
SHARE: Final = 0.3
CAPACITY_SECONDS: Final = 3
WARM_READS: Final = 5_000
"""Users, read before the span begins; all items are fewer bytes."""
JOIN_SECONDS: Final = 60.0
"""In which it is to begin to read."""

METHOD: Final = f"""\
One worker, real Redis, {SHAPE.users:,} users of {SHAPE.pairs} pairs, 1 user x {CANDIDATES} items, \
safetensors f16 rows, Poisson arrivals at {SHARE:.0%} of the capacity that wrk finds beforehand. A \
round is a quiet span, then one while `gkc join --max-reads-per-second {READS_PER_SECOND}` reads \
users for {ROWS:,} rows from the same Redis. The service has a core of its own. The join stands \
for one on another host: it runs on the core of load and Redis, and only when neither of them \
wants to (SCHED_IDLE). How many users it reads is told by what Redis sends."""


@dataclass(frozen=True)
class Round:
    """The answers in quiet and beside a join, and the users that it read in a second."""

    quiet: Answers
    beside: Answers
    reads: float


def main(*, rounds: Rounds = 4, seconds: Seconds = 6, save: Save = False) -> None:
    """Measure latency in quiet and beside a join."""
    with Stage() as stage:
        store = publish_numbers(stage.redis().redis_url(), SHAPE)
        source = write_table(stage.folder / "in", ROWS, SHAPE)
        drawn = questions(SHAPE, CANDIDATES, BODIES, seed=0, dtype="f16")
        asked = Ask(stage.serve(store), stage.write("bodies", drawn))
        rate = SHARE * stage.ask(asked, CAPACITY_SECONDS).rate
        measured = [
            measure(stage, asked, store, source, rate, seconds, seed) for seed in range(rounds)
        ]
    tell(section(measured, rate), save=save)


def measure(
    stage: Stage, asked: Ask, store: str, source: Path, rate: float, seconds: int, seed: int
) -> Round:
    """Measure a quiet span, and one beside a join.

    Raises
    ------
    SystemExit
        If a request failed, or the join was over before.
    """

    def span() -> Answers:
        return offer(asked, stage.other_cores, seconds=seconds, rate=rate, seed=seed)

    quiet = span()
    with redis.Redis.from_url(store) as server, joining(stage, store, source) as process:
        wait_for_reads(server, process)
        before = sent_bytes(server)
        beside = span()
        reads = (sent_bytes(server) - before) / RECORD_BYTES - len(beside.records)
        if process.poll() is not None:
            raise SystemExit("the join was over before the service was asked: give it more rows")
    if quiet.failed or beside.failed:
        raise SystemExit(f"{quiet.failed + beside.failed} requests failed")
    return Round(quiet, beside, reads / seconds)


@contextmanager
def joining(stage: Stage, store: str, source: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Join until the block ends, where and when neither load nor Redis wants to run."""
    limit = ("--max-reads-per-second", str(READS_PER_SECOND))
    command = ["chrt", "--idle", "0", *join_command(store, source, stage.folder / "out", *limit)]
    environment = os.environ | {"GKC_MIRROR_DIR": str(stage.folder / "mirrors")}
    with subprocess.Popen(
        pinned(stage.other_cores, command), stdout=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def wait_for_reads(server: redis.Redis, process: subprocess.Popen[bytes]) -> None:
    """Wait until the join reads users.

    Raises
    ------
    SystemExit
        If it does not.
    """
    enough, deadline = (
        sent_bytes(server) + WARM_READS * RECORD_BYTES,
        time.monotonic() + JOIN_SECONDS,
    )
    while sent_bytes(server) < enough:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the join reads no users")
        time.sleep(0.05)


def sent_bytes(server: redis.Redis) -> int:
    """Return what a server has sent so far."""
    told: dict[str, int] = server.info("stats")
    return told["total_net_output_bytes"]


def section(rounds: Sequence[Round], rate: float) -> Section:
    """Put what the rounds found in the form that is told."""
    quiet, beside = (
        [answers.latency_ms(99) for answers in side]
        for side in ([each.quiet for each in rounds], [each.beside for each in rounds])
    )
    return Section(
        module="bench.join_redis",
        title="A join beside a service on the same Redis",
        method=METHOD,
        figures=[
            Figure(
                "p99 of a service while a join reads from its Redis, to quiet",
                ratios(beside, quiet),
                target=1.5,
                at_most=True,
            ),
            Figure("p99 in quiet", quiet, "ms"),
            Figure("p99 beside the join", beside, "ms"),
            Figure("users that the join read", [each.reads for each in rounds], "/s", digits=0),
        ],
        notes=[f"{rate:,.0f} requests a second."],
    )


if __name__ == "__main__":
    typer.run(main)
