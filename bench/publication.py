"""Latency while a generation is exported, loaded and deleted, against quiet; and time to serving.

Requests arrive at a fixed share of this one's capacity (``bench.arrivals``), in a quiet span and
a publication after it; this checkout and another one, each with its own exporter, take turns.

    python -m bench.publication [CHECKOUT] [--save]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bench.arrivals import Answers, offering
from bench.checkouts import HERE, Checkout, GivenCheckout, other_checkout
from bench.processes import Server
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import CONCURRENCY, Ask, Stage, ratios
from bench.world import VERSION, Shape, export, questions
from keep.served import SAFETENSORS

ROWS: Final = 500
QUESTIONS: Final = 2000
CAPACITY_SECONDS: Final = 5
SHARE: Final = 0.3
ITEMS: Final = 200_000
GRACE_SECONDS: Final = 5
"""Readers go on with the old generation for so long; so long the spans after it are, too."""
LONGEST_SECONDS: Final = 3600

METHOD: Final = f"""\
One worker, real Redis, 1 user x {ROWS} items, safetensors f16 rows, Poisson arrivals at \
{SHARE:.0%} of the capacity that wrk finds beforehand ({CONCURRENCY} connections). A quiet span \
and a publication after it are a round; this checkout and the commit before take turns, asked as \
often as each other. In a publication the exporter writes and verifies the whole bundle as a new \
generation of the version asked for (*exporting*: from its first row to the swap of the \
catalogue), the service copies the items and goes over to it (*loading*: from the swap to the end \
of the grace of {GRACE_SECONDS} s), and the exporter deletes the generation that was served before \
(*deleting*: as long again). Every p99 is set against that of the quiet span before it. The \
service has a core of its own. The exporter stands for one on another host: it runs on the core \
of load and Redis, and only when neither of them wants to (SCHED_IDLE), so it takes nothing of the \
service's core and makes neither Redis nor the load wait for one. What it asks of Redis is felt in \
full, but comes no faster than what is left of that core computes it. When the new generation \
serves is told by the service's log."""


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
    parts: Mapping[str, Answers]
    """The publication as a whole, and its spans."""
    serving_seconds: float
    """From the catalogue's swap to a worker that has loaded the new generation."""

    @property
    def whole(self) -> Answers:
        """What was answered during the publication."""
        return self.parts["publication and deletion"]

    def ratio(self, part: str) -> float:
        """Return a part's p99 over the quiet one."""
        return self.parts[part].latency_ms(99) / self.quiet.latency_ms(99)


@dataclass(frozen=True)
class Side:
    """A checkout, the store that it exports into, and its service."""

    checkout: Checkout
    store: str
    service: Server


def main(
    other: GivenCheckout = None,
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Publications of each checkout.")] = 4,
    seconds: Annotated[int, typer.Option(min=1, help="Of each quiet span.")] = 8,
    users: Annotated[int, typer.Option(help="Users of each generation.")] = 20_000,
    items: Annotated[int, typer.Option(help="Items of each generation.")] = ITEMS,
    save: Annotated[bool, typer.Option("--save", help="Keep the result for the page.")] = False,
) -> None:
    """Measure latency while generations are published."""
    shape = Shape(users=users, items=items)
    with Stage() as stage:
        _, url = stage.redis()
        bundle, sides = stage.folder / "bundle", []
        for database, checkout in enumerate((HERE, other_checkout(other))):
            store = f"{url.removesuffix('/0')}/{database}"
            export(bundle, shape, store, checkout=checkout)
            sides.append(Side(checkout, store, stage.serve(store, checkout=checkout)))
        drawn = questions(shape, ROWS, QUESTIONS, seed=0)
        bodies = stage.write("bodies", [body | {"dtype": "f16"} for body in drawn])
        rate = SHARE * stage.ask(Ask(sides[0].service, bodies), CAPACITY_SECONDS).rate
        found: list[list[Round]] = [[], []]
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for side, its in zip(sides, found, strict=True):
                its.append(measure(side, bundle, bodies, rate, stage.others, seconds))
    tell(section(found[0], found[1], rate, shape), save=save)


def measure(
    side: Side, bundle: Path, bodies: Path, rate: float, cores: Collection[int], seconds: int
) -> Round:
    """Measure a quiet span and a publication after it, under load.

    Parameters
    ----------
    side : Side
        Who is asked.
    bundle : Path
        What is published.
    bodies : Path
        Requests.
    rate : float
        Requests a second.
    cores : collection of int
        Cores of load and exporter.
    seconds : int
        How long the quiet span lasts.
    """
    asked = (side.service, bodies, SAFETENSORS, cores)
    with offering(*asked, seconds=LONGEST_SECONDS, rate=rate) as offered:
        time.sleep(1)  # connections are made, and the first requests answered
        began = time.monotonic()
        time.sleep(seconds)
        quiet = began, time.monotonic()
        publication = publish(side, bundle, cores)
        time.sleep(GRACE_SECONDS)
        answers = offered.stop()
    loaded = loaded_at(side.service.log.read_text(encoding="utf-8"), publication.generation)
    return round_of(answers, quiet, publication, loaded)


def publish(side: Side, bundle: Path, cores: Collection[int]) -> Publication:
    """Export the bundle once more, and wait until the old generation is deleted.

    The exporter runs on these cores when nobody else wants to.

    Raises
    ------
    SystemExit
        If the export fails.
    """
    what = ["--version", VERSION, "--store", side.store, "--bundle", str(bundle), "--dtype", "f16"]
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
    return read_publication(done.stderr)


def read_publication(log: str) -> Publication:
    """Read from the exporter's log when it did what.

    Raises
    ------
    SystemExit
        If it published or deleted nothing.
    """
    lines = events(log)
    began = [line for line in lines if line.get("phase") == "write"]
    published = [line for line in lines if line["event"] == "generation_published"]
    if not began or not published or "generation_deleted" not in {line["event"] for line in lines}:
        raise SystemExit(f"the export's log does not tell of a publication and a deletion: {log}")
    return Publication(
        generation=published[0]["generation"],
        began=monotonic_of(began[0]["timestamp"]),
        published=monotonic_of(published[0]["timestamp"]),
    )


def loaded_at(log: str, generation: str) -> float:
    """Read from the service's log when it had loaded a generation."""
    (line,) = (
        line
        for line in events(log)
        if line["event"] == "generation_loaded" and line["generation"] == generation
    )
    return monotonic_of(line["timestamp"])


def events(log: str) -> list[dict[str, Any]]:
    """Return the lines of a log that are JSON."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def monotonic_of(timestamp: str) -> float:
    """Return a log's time of day as seconds of CLOCK_MONOTONIC."""
    return datetime.fromisoformat(timestamp).timestamp() + time.monotonic() - time.time()


def round_of(
    answers: Answers, quiet: tuple[float, float], found: Publication, loaded: float
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
    loaded : float
        When the service had the new generation.
    """
    deleting = found.published + GRACE_SECONDS
    end = deleting + GRACE_SECONDS
    spans = {
        "publication and deletion": (found.began, end),
        "exporting": (found.began, found.published),
        "loading": (found.published, deleting),
        "deleting": (deleting, end),
    }
    parts = {name: answers.due_within(*span) for name, span in spans.items()}
    return Round(answers.due_within(*quiet), parts, loaded - found.published)


def section(rounds: Sequence[Round], before: Sequence[Round], rate: float, shape: Shape) -> Section:
    """Put what the rounds found, here and before, in the form that is told."""
    at_most = partial(Figure, at_most=True)
    here, there = ([one.whole.latency_ms(99) for one in side] for side in (rounds, before))
    failed = [float(one.quiet.failed + one.whole.failed) for one in rounds]
    figures = [
        at_most(
            f"p99 during {part} against quiet p99",
            [one.ratio(part) for one in rounds],
            target=2,
            stretch=1.3,
        )
        for part in rounds[0].parts
    ]
    figures += [
        at_most("p99 in a publication, to the commit before", ratios(here, there), target=1.03),
        at_most(
            "requests that failed in a publication or before it",
            *(failed, "", 0),
            digits=0,
        ),
        Figure(
            "from publication to a worker that has it loaded",
            [one.serving_seconds for one in rounds],
            "s",
        ),
    ]
    for told, percent in (("p50", 50), ("p99", 99), ("longest", 100)):
        quiet = [one.quiet.latency_ms(percent) for one in rounds]
        whole = [one.whole.latency_ms(percent) for one in rounds]
        figures += [
            Figure(f"quiet: {told}", quiet, "ms"),
            Figure(f"publication: {told}", whole, "ms"),
        ]
    quiet_before = [one.quiet.latency_ms(99) for one in before]
    return Section(
        module="bench.publication",
        title="While a generation is published",
        method=METHOD,
        figures=figures,
        notes=[
            f"{shape.users:,} users with {shape.pairs} pairs each and {shape.items:,} items, at "
            f"{rate:,.0f} requests a second; the commit before: p99 "
            f"{spread(quiet_before)} ms in quiet and {spread(there)} ms in a publication."
        ],
        packages=("uvloop",),
    )


if __name__ == "__main__":
    typer.run(main)
