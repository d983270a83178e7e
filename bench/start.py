"""Time from the start of the process to ready, by the number of items; memory of two workers.

python -m bench.start [--save]
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import typer

from bench.options import Rounds, Save
from bench.processes import Server, events
from bench.results import Curve, Figure, Section, tell
from bench.stage import Stage, ratios
from bench.world import Shape, export

KINDS: Final = ("Redis, mirror to be built", "Redis, mirror there", "embedded")
"""One that builds the mirror comes before one that finds it."""
FEW: Final = 1_000
MOST: Final = 10_000_000
"""Items."""
USERS: Final = 1_000
WORKERS: Final = 2
MEMORY_MB: Final = 16_384
READY_SECONDS: Final = 60.0
Series = Mapping[tuple[str, int], Sequence[float]]
"""By kind, or by number of workers, and by items."""

METHOD: Final = f"""\
One worker; ready is the first 200 of `/readyz`, asked for every 20 ms. *Embedded* maps the \
exported table, *mirror there* re-reads the host's copy against its checksums before it is mapped, \
*mirror to be built* copies all items from Redis first. All files are in the page cache. Memory is \
the proportional set size of all processes of the service, once every worker has its tables: a \
page that several of them map counts once. {USERS:,} users, f16, D = 64. A start and the memory on \
a tiny store, beside the commit before: *Beside the commit before*."""


def main(*, rounds: Rounds = 3, save: Save = False) -> None:
    """Measure starts, and the memory of workers."""
    with Stage() as stage:
        redis, stores = stage.redis(), {}
        for database, count in enumerate((FEW, MOST)):
            url = redis.redis_url(database)
            stores[count] = {"embedded": f"file:{stage.folder}/store-{count}", "Redis": url}
            for store in stores[count].values():
                export(stage.folder / f"bundle-{count}", Shape(USERS, count), store)
        series = measure(stage, stores, rounds)
    tell(section(series, MOST), save=save)


def measure(stage: Stage, stores: Mapping[int, Mapping[str, str]], rounds: int) -> Series:
    """Start and stop the service in all ways, in turns; seconds and MiB of each round."""
    series: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for items, urls in stores.items():
            mirrors = stage.folder / f"mirrors-{items}"
            settings = {"GKC_MIRROR_DIR": str(mirrors), "GKC_ITEM_MEMORY_MB": str(MEMORY_MB)}
            shutil.rmtree(mirrors, ignore_errors=True)
            for kind in KINDS:
                store = urls[kind.partition(",")[0]]
                with Stage() as alone:
                    began = time.perf_counter()
                    alone.serve(store, environment=settings)
                    series[kind, items].append(time.perf_counter() - began)
            for workers in (1, WORKERS):
                how = ("--workers", str(workers))
                with Stage() as alone:
                    server = alone.serve(urls["Redis"], *how, environment=settings)
                    wait_until_loaded(server, workers)
                    series[f"{workers}", items].append(server.proportional_mib())
    return series


def wait_until_loaded(server: Server, workers: int) -> None:
    """Wait until every worker says that it has its tables.

    Raises
    ------
    SystemExit
        If one does not.
    """
    deadline = time.monotonic() + READY_SECONDS
    while count_loaded(server.log) < workers:
        if time.monotonic() > deadline:
            raise SystemExit(f"not all of {workers} workers loaded their tables: {server.log}")
        time.sleep(0.02)


def count_loaded(log: Path) -> int:
    """Return how many generations the workers have loaded."""
    lines = events(log.read_text(encoding="utf-8"))
    return sum(line["event"] == "generation_loaded" for line in lines)


def section(series: Series, items: int) -> Section:
    """Put what was found in the form that is told."""
    counts = (FEW, items)
    starts = [
        Figure(f"start with {count:,} items, {kind}", series[kind, count], "s")
        for count in counts
        for kind in reversed(KINDS)
    ]
    shared = ratios(series[f"{WORKERS}", items], series["1", items])
    slowest = statistics.median(series[KINDS[0], items])
    return Section(
        module="bench.start",
        title="Start and memory",
        method=METHOD,
        figures=[
            *starts,
            Figure(f"memory of 1 worker, {items:,} items", series["1", items], "MiB", digits=0),
            Figure(f"memory of {WORKERS} workers against one, {items:,} items", shared),
        ],
        curves=[
            Curve(
                "start",
                f"{items:,} items are served {slowest:.1f} s after a start at the latest",
                *("items", "seconds from the start of the process to ready"),
                {kind: [(n, series[kind, n]) for n in counts] for kind in reversed(KINDS)},
            )
        ],
    )


if __name__ == "__main__":
    typer.run(main)
