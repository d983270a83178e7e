"""Latency while a generation is exported, loaded and deleted, against quiet; and time to serving.

Requests arrive at a fixed share of the service's capacity (``bench.arrivals``), in a quiet span and
a publication after it; this checkout and another one, each with its own exporter, take turns. A
thread asks for one row again and again to see when the new generation answers. Where the exporter's
CPU time goes is said in the method below.

    python -m bench.publication [CHECKOUT] [--save]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.arrivals import Answers, offering
from bench.bundles import USER_ID_STEP
from bench.checkouts import HERE, Checkout, GivenCheckout, other_checkout
from bench.processes import Server
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import CONCURRENCY, Ask, Stage
from bench.world import VERSION, Shape, World, export
from keep.served import SAFETENSORS

ROWS = 500
QUESTIONS = 2000
CAPACITY_SECONDS = 5
SHARE = 0.3
ITEMS = 200_000
GRACE_SECONDS = 5
"""Readers go on with the old generation for so long; so long the spans after it are, too."""
LOOK_SECONDS = 0.01
"""Pause between two looks at which generation answers."""
LONGEST_SECONDS = 3600

METHOD = f"""\
One worker, real Redis, 1 user x {ROWS} items, safetensors f16 rows, Poisson arrivals at \
{SHARE:.0%} of the capacity that wrk finds beforehand ({CONCURRENCY} connections). A quiet span \
and a publication after it are a round; this checkout and the commit before take turns, asked as \
often as each other. In a publication the exporter writes and verifies the whole bundle \
as a new generation of the version asked for (*exporting*: from its first row to the swap of the \
catalogue), the service copies the items and goes over to it (*loading*: from the swap to the end \
of the grace of {GRACE_SECONDS} s), and the exporter deletes the generation that was served before \
(*deleting*: as long again). Every p99 is set against that of the quiet span before it. The \
service has a core of its own. The exporter stands for one on another host: it runs on the core \
of load and Redis, and only when neither of them wants to (SCHED_IDLE), so it takes nothing of the \
service's core and makes neither Redis nor the load wait for one. What it asks of Redis is felt in \
full, but comes no faster than what is left of that core computes it."""


@dataclass(frozen=True)
class Publication:
    """When one publication did what; seconds of CLOCK_MONOTONIC."""

    generation: str
    began: float
    """Its first row is written."""
    published: float
    """The catalogue names it."""


@dataclass(frozen=True)
class Round:
    """A quiet span, a publication after it, and the answers in each part of both."""

    quiet: Answers
    exporting: Answers
    loading: Answers
    deleting: Answers
    publication: Answers
    """The three before, one after the other."""
    serving_seconds: float
    """From the catalogue's swap to the first answer from the new generation."""
    mirror_seconds: float
    """How much of it the service spent copying the items."""

    def ratio(self, part: Answers) -> float:
        """Return a part's p99 over the quiet one."""
        return part.latency_ms(99) / self.quiet.latency_ms(99)


class Watch:
    """Asks for one row again and again, and notes when another generation answers.

    Parameters
    ----------
    port : int
        Of the service.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.first_seen: dict[str, float] = {}
        """When each generation first answered; seconds of CLOCK_MONOTONIC."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look until the block ends."""
        self._thread.start()
        try:
            yield
        finally:
            self._is_stopped.set()
            self._thread.join()

    def _look(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=LONGEST_SECONDS)
        body = json.dumps({"u": USER_ID_STEP, "i": 1, "v": VERSION, "parts": ["user"]})
        while not self._is_stopped.wait(LOOK_SECONDS):
            connection.request("POST", "/knowledge", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
            if "versions" in answer:  # else a problem, which the load counts
                self.first_seen.setdefault(answer["versions"][VERSION], time.monotonic())
        connection.close()


@dataclass(frozen=True)
class Side:
    """A checkout, what it exported, and its service."""

    checkout: Checkout
    made: World
    service: Server


def publish(side: Side, cores: Collection[int]) -> Publication:
    """Export the bundle once more, and wait until the old generation is deleted.

    Parameters
    ----------
    side : Side
        Whose version gets a new generation.
    cores : collection of int
        Cores of the exporter, which runs on them when nobody else wants to.

    Returns
    -------
    Publication
        When it did what.

    Raises
    ------
    SystemExit
        If the export fails.
    """
    made = side.made
    what = ["--version", VERSION, "--store", made.url, "--dtype", made.shape.dtype]
    what += ["--bundle", str(made.folder / "bundle")]
    how = ["--keep-previous", "0", "--grace-seconds", str(GRACE_SECONDS)]

    def yields() -> None:
        os.sched_setaffinity(0, cores)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    done = subprocess.run(
        side.checkout.module("exporter", *what, *how),
        env=os.environ | side.checkout.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=yields,
    )
    if done.returncode:
        raise SystemExit(f"the export failed: {done.stderr}")
    return read_publication(done.stderr, monotonic_of)


def monotonic_of(timestamp: str) -> float:
    """Return a log's time of day as seconds of CLOCK_MONOTONIC."""
    return datetime.fromisoformat(timestamp).timestamp() + time.monotonic() - time.time()


def read_publication(log: str, clock: Callable[[str], float]) -> Publication:
    """Read from the exporter's log when it did what.

    Parameters
    ----------
    log : str
        Lines of JSON.
    clock : callable
        Turns a timestamp of the log into seconds.

    Returns
    -------
    Publication
        What the log tells.

    Raises
    ------
    SystemExit
        If it published or deleted nothing.
    """
    lines = _events(log)
    began = [line for line in lines if line.get("phase") == "write"]
    published = [line for line in lines if line["event"] == "generation_published"]
    if not began or not published or "generation_deleted" not in {line["event"] for line in lines}:
        raise SystemExit(f"the export's log does not tell of a publication and a deletion: {log}")
    return Publication(
        generation=published[0]["generation"],
        began=clock(began[0]["timestamp"]),
        published=clock(published[0]["timestamp"]),
    )


def read_mirrors(log: str) -> dict[str, float]:
    """Read from the service's log how long it copied the items of each generation, in seconds."""
    return {
        line["generation"]: line["seconds"]
        for line in _events(log)
        if line["event"] == "mirror_built"
    }


def _events(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def round_of(
    answers: Answers, quiet: tuple[float, float], found: Publication, served: float, mirror: float
) -> Round:
    """Cut the answers into the parts of one round.

    Parameters
    ----------
    answers : Answers
        Of the whole run.
    quiet : (float, float)
        Beginning and end of the quiet span; seconds of CLOCK_MONOTONIC, as all times here.
    found : Publication
        The publication after it.
    served : float
        When the new generation first answered.
    mirror : float
        Seconds that the service copied its items.

    Returns
    -------
    Round
        Part by part.
    """
    deleting = found.published + GRACE_SECONDS
    end = deleting + GRACE_SECONDS
    return Round(
        quiet=answers.due_within(*quiet),
        exporting=answers.due_within(found.began, found.published),
        loading=answers.due_within(found.published, deleting),
        deleting=answers.due_within(deleting, end),
        publication=answers.due_within(found.began, end),
        serving_seconds=served - found.published,
        mirror_seconds=mirror,
    )


def measure(side: Side, bodies: Path, rate: float, cores: Collection[int], seconds: int) -> Round:
    """Measure a quiet span and a publication after it, under load.

    Parameters
    ----------
    side : Side
        Who is asked.
    bodies : Path
        Requests.
    rate : float
        Requests a second.
    cores : collection of int
        Cores of load and exporter.
    seconds : int
        How long the quiet span lasts.
    """
    watch = Watch(side.service.port)
    with (
        offering(
            side.service, bodies, SAFETENSORS, cores, seconds=LONGEST_SECONDS, rate=rate
        ) as offered,
        watch.running(),
    ):
        time.sleep(1)  # connections are made, and the first requests answered
        began = time.monotonic()
        time.sleep(seconds)
        quiet = began, time.monotonic()
        publication = publish(side, cores)
        time.sleep(GRACE_SECONDS)
        answers = offered.stop()
    mirrors = read_mirrors(side.service.log.read_text(encoding="utf-8"))
    generation = publication.generation
    return round_of(answers, quiet, publication, watch.first_seen[generation], mirrors[generation])


def section(rounds: Sequence[Round], before: Sequence[Round], rate: float, shape: Shape) -> Section:
    """Put what the rounds found, here and before, in the form that is told."""
    parts = {
        "publication and deletion": [found.publication for found in rounds],
        "exporting": [found.exporting for found in rounds],
        "loading": [found.loading for found in rounds],
        "deleting": [found.deleting for found in rounds],
    }
    quiet = [found.quiet for found in rounds]
    ratios = [
        Figure(
            f"p99 during {name} against quiet p99",
            [found.ratio(part) for found, part in zip(rounds, answers, strict=True)],
            target=2,
            stretch=1.3,
            at_most=True,
        )
        for name, answers in parts.items()
    ]
    p99 = [found.publication.latency_ms(99) for found in rounds]
    there = [found.publication.latency_ms(99) for found in before]
    ratios.append(
        Figure(
            "p99 during a publication, to the commit before",
            [one / other for one, other in zip(p99, there, strict=True)],
            target=1.03,
            at_most=True,
        )
    )
    failed = [found.quiet.failed + found.publication.failed for found in rounds]
    times = [
        Figure(f"{name}: {told}", [answer.latency_ms(percent) for answer in answers], unit="ms")
        for name, answers in {"quiet": quiet, **parts}.items()
        for told, percent in (("p50", 50), ("p99", 99), ("longest", 100))
    ]
    return Section(
        module="bench.publication",
        title="While a generation is published",
        method=METHOD,
        figures=(
            *ratios,
            Figure(
                "requests that failed in a publication or before it",
                failed,
                unit="",
                target=0,
                at_most=True,
                digits=0,
            ),
            Figure(
                "from publication to the first answer",
                [found.serving_seconds for found in rounds],
                unit="s",
            ),
            Figure(
                "of which the service copies the items",
                [found.mirror_seconds for found in rounds],
                unit="s",
            ),
            *times,
        ),
        notes=(
            f"{shape.users:,} users with {shape.pairs} pairs each and {shape.items:,} items, at "
            f"{rate:,.0f} requests a second; the commit before: p99 "
            f"{spread([found.quiet.latency_ms(99) for found in before])} ms in quiet and "
            f"{spread(there)} ms in a publication.",
            "The first answer is seen by asking for one row every "
            f"{1000 * LOOK_SECONDS:.0f} ms, in quiet spans as well.",
        ),
        packages=("uvloop",),
    )


def main(
    other: GivenCheckout = None,
    *,
    save: Annotated[bool, typer.Option("--save", help="Keep the result for the page.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Publications of each checkout.")] = 4,
    seconds: Annotated[int, typer.Option(min=1, help="Of each quiet span.")] = 8,
    users: Annotated[int, typer.Option(help="Users of each generation.")] = 20_000,
    items: Annotated[int, typer.Option(help="Items of each generation.")] = ITEMS,
) -> None:
    """Measure latency while generations are published."""
    checkouts = HERE, other_checkout(other)
    shape = Shape(users=users, items=items)
    with Stage() as stage:
        redis, url = stage.redis()
        os.sched_setaffinity(0, stage.others)  # this process asks, too
        sides = []
        for database, checkout in enumerate(checkouts):
            made = World(shape, redis, f"{url.removesuffix('/0')}/{database}", stage.folder)
            export(stage.folder / "bundle", shape, made.url, checkout=checkout)
            sides.append(Side(checkout, made, stage.serve(made.url, checkout=checkout)))
        drawn = sides[0].made.questions(ROWS, QUESTIONS, seed=0)
        questions = [body | {"dtype": "f16"} for body in drawn]
        bodies = stage.write("bodies", questions)
        rate = SHARE * stage.ask(Ask(sides[0].service, bodies), CAPACITY_SECONDS).rate
        found: list[list[Round]] = [[], []]
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for side, its in zip(sides, found, strict=True):
                its.append(measure(side, bodies, rate, stage.others, seconds))
    tell(section(found[0], found[1], rate, shape), save=save)


if __name__ == "__main__":
    typer.run(main)
