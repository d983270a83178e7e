"""How time grows: with the items of a version, versions, rows, users and requests under way.

One service holds several versions and is asked for them in turns, so that the points of one curve
are measured in one run.

    python -m bench.growth [--save]
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import typer

from bench.load import Ask, Load
from bench.options import Rounds, Save, Seconds
from bench.results import Curve, Figure, Section, tell
from bench.stage import Stage, ratios
from bench.world import VERSION, Body, Shape, export, of_users, questions

ROWS: Final = 500
BODIES: Final = 1_000
MOST_ROWS_WRITTEN: Final = 500_000
"""Of one file of requests; requests of very many rows are fewer."""
ALL_ITEMS: Final = (10_000, 100_000, 1_000_000, 10_000_000)
ALL_ROWS: Final = (1, 5, 50, 500, 2_000, 10_000)
ALL_CONCURRENCY: Final = (1, 4, 16, 64, 256)
ALL_DISTINCT: Final = (1, 5, 50, 500)
OTHER_VERSIONS: Final = ("second", "third", "fourth", "fifth")
SMALL: Final = Shape(users=10_000, items=10_000)
Runs = Mapping[tuple[str, int], Sequence[Load]]
"""By curve and point."""


def main(*, rounds: Rounds = 3, seconds: Seconds = 1, save: Save = False) -> None:
    """Measure every curve, and tell."""
    runs = {**measure_items(rounds, seconds), **measure_requests(rounds, seconds)}
    tell(section(runs, rounds, seconds), save=save)


def measure_items(rounds: int, seconds: int) -> Runs:
    """Ask one service for versions of few to many items."""
    asked = {}
    with Stage() as stage:
        url = stage.redis().redis_url()
        shapes = {n: dataclasses.replace(SMALL, users=1_000, items=n) for n in ALL_ITEMS}
        for n, shape in shapes.items():
            export(stage.folder / f"bundle-{n}", shape, url, f"items-{n}")
        service = stage.serve(url)
        for n, shape in shapes.items():
            bodies = stage.write(f"items-{n}", drawn(ROWS, shape, v=f"items-{n}"))
            asked["items", n] = Ask(service, bodies, concurrency=1)
        return stage.in_turns(asked, rounds, seconds)


def measure_requests(rounds: int, seconds: int) -> Runs:
    """Ask for one version, beside none and beside others, in all sizes and by many at once."""
    asked: dict[tuple[str, int], Ask] = {}
    with Stage() as stage, Stage() as full:
        served = []
        for place, versions in ((stage, [VERSION]), (full, [VERSION, *OTHER_VERSIONS])):
            url = place.redis().redis_url()
            for version in versions:
                export(stage.folder / "bundle", SMALL, url, version)
            served.append(place.serve(url))
        alone, service = served
        rows = stage.write("rows", drawn(ROWS))
        asked["versions", 1] = Ask(alone, rows, concurrency=1)
        asked["versions", 1 + len(OTHER_VERSIONS)] = Ask(service, rows, concurrency=1)
        for n in ALL_CONCURRENCY:
            asked["under way", n] = Ask(service, rows, concurrency=n)
        for n in ALL_ROWS:
            for layout in ("rows", "factored"):
                bodies = stage.write(f"{layout}-{n}", drawn(n, layout=layout))
                asked[layout, n] = Ask(service, bodies, concurrency=1)
        for n in ALL_DISTINCT:
            bodies = stage.write(f"users-{n}", of_users(drawn(ROWS), n))
            asked["users", n] = Ask(service, bodies, concurrency=1)
        return stage.in_turns(asked, rounds, seconds)


def drawn(rows: int, shape: Shape = SMALL, **more: str) -> list[Body]:
    """Draw requests for f16, those of very many rows fewer."""
    count = max(10, min(BODIES, MOST_ROWS_WRITTEN // rows))
    return questions(shape, rows, count, seed=1, dtype="f16", **more)


def section(runs: Runs, rounds: int, seconds: int) -> Section:
    """Put what was found in the form that is told."""
    few, *_, most = points(runs, "items")
    versions, users = points(runs, "versions")[-1], points(runs, "users")[-1]
    by_items = ratios(p50(runs, "items", most), p50(runs, "items", few))
    by_versions = ratios(p50(runs, "versions", versions), p50(runs, "versions", 1))
    by_users = ratios(p50(runs, "users", users), p50(runs, "users", 1))
    by_rows = ratios(p50(runs, "rows", ROWS), p50(runs, "rows", 1))
    rates = {n: [run.rate for run in runs["under way", n]] for n in points(runs, "under way")}
    best = max(rates, key=lambda n: statistics.median(rates[n]))
    at_most = partial(Figure, at_most=True)
    return Section(
        module="bench.growth",
        title="Growth",
        method=(
            f"Unless a picture says otherwise: 1 user by {ROWS} candidates, safetensors rows in "
            f"f16, D = {SMALL.dim}, one request under way, p50 of wrk; one worker on a core of its "
            f"own, Redis and wrk on the others. {rounds} rounds of {seconds} s for each point, the "
            f"points in turns. Bars are the range of the rounds."
        ),
        figures=[
            at_most(f"p50 with {most:,} items to {few:,}", by_items, target=1.3, stretch=1.15),
            at_most(
                f"p50 where {versions} versions are served to where one is",
                by_versions,
                target=1.1,
                stretch=1.05,
            ),
            Figure(f"p50 of {ROWS} rows to one", by_rows),
            Figure(f"p50 of {ROWS} rows of {users} users to those of one", by_users),
            Figure("most requests/s", rates[best], "/s", digits=0),
        ],
        curves=[
            Curve(
                "growth-items",
                f"{most // few:,} times the items, {statistics.median(by_items):.2f} times the p50",
                *("items of the version", "p50, ms"),
                {"500 rows": [(n, p50(runs, "items", n)) for n in points(runs, "items")]},
            ),
            Curve(
                "growth-rows",
                f"{ROWS} rows take {statistics.median(by_rows):.1f} times as long as one",
                *("rows of a request", "p50, ms"),
                {
                    layout: [(n, p50(runs, layout, n)) for n in points(runs, layout)]
                    for layout in ("rows", "factored")
                },
                log_y=True,
            ),
            Curve(
                "growth-users",
                f"{users} users in {ROWS} rows take {statistics.median(by_users):.1f} times one's",
                *("distinct users of a request", "p50, ms"),
                {f"{ROWS} rows": [(n, p50(runs, "users", n)) for n in points(runs, "users")]},
            ),
            Curve(
                "growth-under-way",
                f"A worker answers most with {best} under way: then requests only wait",
                *("requests under way", "requests/s"),
                {"throughput": list(rates.items())},
            ),
        ],
    )


def points(runs: Runs, curve: str) -> list[int]:
    """Return the points of a curve, ascending."""
    return sorted(at for name, at in runs if name == curve)


def p50(runs: Runs, curve: str, point: int) -> list[float]:
    """Return the p50 of each round, ms."""
    return [run.p50_ms for run in runs[curve, point]]


if __name__ == "__main__":
    typer.run(main)
