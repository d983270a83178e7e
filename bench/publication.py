"""Latency while a generation is exported, loaded and deleted, against quiet; and time to serving.

Requests arrive at a fixed share of this one's capacity (``bench.arrivals``), in a quiet span and
a publication after it; this checkout and another one, each with its own exporter, take turns.

    python -m bench.publication [CHECKOUT] [--save]
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import typer

from bench.arrivals import Answers, offering
from bench.checkouts import HERE, Checkout, GivenCheckout, other_checkout
from bench.load import CONCURRENCY, Ask
from bench.options import Rounds, Save, Seconds
from bench.processes import events, pinned
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import Stage, in_turns, ratios
from bench.world import VERSION, Shape, export, questions

ROWS: Final = 500
QUESTIONS: Final = 2000
CAPACITY_SECONDS: Final = 5
SHARE: Final = 0.3
SHAPE: Final = Shape(users=20_000, items=200_000)
"""Of each generation."""
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
    """A checkout, the store that it exports into, and what its service is asked."""

    checkout: Checkout
    store: str
    asked: Ask


def main(
    other: GivenCheckout = None, *, rounds: Rounds = 3, seconds: Seconds = 8, save: Save = False
) -> None:
    """Measure latency while generations are published."""
    with Stage() as stage:
        drawn = questions(SHAPE, ROWS, QUESTIONS, seed=0, dtype="f16")
        redis, bodies, sides = stage.redis(), stage.write("bodies", drawn), []
        for database, checkout in enumerate((HERE, other_checkout(other))):
            store = redis.redis_url(database)
            export(stage.folder / "bundle", SHAPE, store, checkout=checkout)
            sides.append(Side(checkout, store, Ask(stage.serve(store, checkout=checkout), bodies)))
        rate = SHARE * stage.ask(sides[0].asked, CAPACITY_SECONDS).rate
        measures = {side: partial(measure, stage, side, rate, seconds) for side in sides}
        here, there = in_turns(measures, rounds).values()
    tell(section(here, there, rate), save=save)


def measure(stage: Stage, side: Side, rate: float, seconds: int) -> Round:
    """Measure a quiet span of so many seconds and a publication after it, under a load."""
    with offering(side.asked, stage.other_cores, seconds=LONGEST_SECONDS, rate=rate) as offered:
        time.sleep(1)  # connections are made, and the first requests answered
        began = time.monotonic()
        time.sleep(seconds)
        quiet = began, time.monotonic()
        publication = publish(side, stage.folder / "bundle", stage.other_cores)
        time.sleep(GRACE_SECONDS)
        answers = offered.stop()
    log = side.asked.server.log.read_text(encoding="utf-8")
    return round_of(answers, quiet, publication, loaded_at(log, publication.generation))


def publish(side: Side, bundle: Path, cores: Collection[int]) -> Publication:
    """Export the bundle once more, and wait until the old generation is deleted.

    The exporter runs on these cores when nobody else wants to.
    """
    what = ["--version", VERSION, "--store", side.store, "--bundle", str(bundle), "--dtype", "f16"]
    how = ["--keep-previous", "0", "--grace-seconds", str(GRACE_SECONDS)]
    exporter = side.checkout.module("exporter", *what, *how)
    done = side.checkout.run(pinned(cores, ["chrt", "--idle", "0", *exporter]))
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


def monotonic_of(timestamp: str) -> float:
    """Return a log's time of day as seconds of CLOCK_MONOTONIC."""
    return datetime.fromisoformat(timestamp).timestamp() + time.monotonic() - time.time()


def round_of(
    answers: Answers, quiet: tuple[float, float], publication: Publication, loaded: float
) -> Round:
    """Cut the answers into the quiet span and the parts of the publication after it.

    ``loaded`` is when the service had the new generation; all are seconds of CLOCK_MONOTONIC.
    """
    began, published = publication.began, publication.published
    deleting = published + GRACE_SECONDS
    end = deleting + GRACE_SECONDS
    spans = {
        "publication and deletion": (began, end),
        "exporting": (began, published),
        "loading": (published, deleting),
        "deleting": (deleting, end),
    }
    parts = {name: answers.due_within(*span) for name, span in spans.items()}
    return Round(answers.due_within(*quiet), parts, loaded - published)


def section(rounds: Sequence[Round], before: Sequence[Round], rate: float) -> Section:
    """Put what the rounds found, here and before, in the form that is told."""
    at_most = partial(Figure, at_most=True)
    p99, p99_before = ([each.whole.latency_ms(99) for each in side] for side in (rounds, before))
    failed = [float(each.quiet.failed + each.whole.failed) for each in rounds]
    figures = [
        at_most(
            f"p99 during {part} against quiet p99",
            [each.ratio(part) for each in rounds],
            target=2,
            stretch=1.3,
        )
        for part in rounds[0].parts
    ]
    figures += [
        at_most("p99 in a publication, to the commit before", ratios(p99, p99_before), target=1.03),
        at_most(
            "requests that failed in a publication or before it", failed, "", target=0, digits=0
        ),
        Figure(
            "from publication to a worker that has it loaded",
            [each.serving_seconds for each in rounds],
            "s",
        ),
    ]
    for name, percent in (("p50", 50), ("p99", 99), ("longest", 100)):
        quiet = [each.quiet.latency_ms(percent) for each in rounds]
        whole = [each.whole.latency_ms(percent) for each in rounds]
        figures += [
            Figure(f"quiet: {name}", quiet, "ms"),
            Figure(f"publication: {name}", whole, "ms"),
        ]
    quiet_before = [each.quiet.latency_ms(99) for each in before]
    return Section(
        module="bench.publication",
        title="While a generation is published",
        method=METHOD,
        figures=figures,
        notes=[
            f"{SHAPE.users:,} users with {SHAPE.pairs} pairs each and {SHAPE.items:,} items, at "
            f"{rate:,.0f} requests a second; the commit before: p99 "
            f"{spread(quiet_before)} ms in quiet and {spread(p99_before)} ms in a publication."
        ],
    )


if __name__ == "__main__":
    typer.run(main)
