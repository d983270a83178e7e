"""How time grows: with the items of a version, versions, rows, users and requests under way.

One service holds several versions and is asked for them in turns, so that the points of one curve
are measured in one run.

    python -m bench.growth [--save]
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from bench.load import Load
from bench.results import Curve, Figure, Section, tell
from bench.stage import Ask, Stage, ratios
from bench.world import VERSION, Shape, export, questions

ROWS: Final = 500
BODIES: Final = 1_000
MOST_ROWS_WRITTEN: Final = 500_000
"""Of one file of requests; requests of very many rows are fewer."""
ALL_ROWS: Final = (1, 5, 50, 500, 2_000, 10_000)
ALL_CONCURRENCY: Final = (1, 4, 16, 64, 256)
ALL_DISTINCT: Final = (1, 5, 50, 500)
FEW_ITEMS: Final = 10_000
OTHER_VERSIONS: Final = ("second", "third", "fourth", "fifth")
SMALL: Final = Shape(users=10_000, items=FEW_ITEMS)
Runs = Mapping[tuple[str, int], Sequence[Load]]
"""By curve and point."""


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Repeats of every point.")] = 5,
    seconds: Annotated[int, typer.Option(help="Of one run of wrk.")] = 1,
    most_items: Annotated[int, typer.Option(help="Of the largest version.")] = 10_000_000,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Measure every curve, and tell."""
    runs = {
        **measure_items(item_counts(most_items), rounds, seconds),
        **measure_requests(rounds, seconds),
    }
    tell(section(runs, rounds, seconds), save=save)


def item_counts(most: int) -> list[int]:
    """Return ten thousand, and ten times as many again and again."""
    counts = [FEW_ITEMS]
    while counts[-1] * 10 <= most:
        counts.append(counts[-1] * 10)
    return counts


def measure_items(counts: Sequence[int], rounds: int, seconds: int) -> Runs:
    """Ask one service for versions of so many items."""
    asked = {}
    with Stage() as stage:
        _, url = stage.redis()
        shapes = {n: dataclasses.replace(SMALL, users=1_000, items=n) for n in counts}
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
            _, url = place.redis()
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


def drawn(rows: int, shape: Shape = SMALL, **more: str) -> list[dict[str, Any]]:
    """Draw requests; f16 rows unless ``more`` says otherwise."""
    count = max(10, min(BODIES, MOST_ROWS_WRITTEN // rows))
    return [{**body, "dtype": "f16", **more} for body in questions(shape, rows, count, seed=1)]


def of_users(bodies: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Let the rows of each request name so many users in turn."""
    users = list(dict.fromkeys(body["u"] for body in bodies))
    asked = []
    for number, body in enumerate(bodies):
        own = [users[(number + k) % len(users)] for k in range(count)]
        asked.append({**body, "u": [own[row % count] for row in range(len(body["i"]))]})
    return asked


def section(runs: Runs, rounds: int, seconds: int) -> Section:
    """Put what was found in the form that is told."""
    few, *_, most = points(runs, "items")
    _, all_versions = points(runs, "versions")
    by_items = ratios(p50(runs, "items", most), p50(runs, "items", few))
    by_versions = ratios(p50(runs, "versions", all_versions), p50(runs, "versions", 1))
    users = points(runs, "users")[-1]
    by_users = ratios(p50(runs, "users", users), p50(runs, "users", 1))
    by_rows = ratios(p50(runs, "rows", ROWS), p50(runs, "rows", 1))
    rates = {n: [run.rate for run in runs["under way", n]] for n in points(runs, "under way")}
    best = max(rates, key=lambda n: statistics.median(rates[n]))
    bounds: dict[str, Any] = {"at_most": True}
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
            Figure(f"p50 with {most:,} items to {few:,}", by_items, "times", 1.3, 1.15, **bounds),
            Figure(
                f"p50 where {all_versions} versions are served to where one is",
                *(by_versions, "times", 1.1, 1.05),
                **bounds,
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
