"""Time from the start of the process to ready, against the number of items; memory of workers.

python -m bench.start [--save]
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from bench.processes import free_port, our_service, redis_serving, separate_cores, serving
from bench.results import Curve, Figure, Line, Section, tell
from bench.world import Shape, export

Kind = Literal["embedded", "Redis, mirror there", "Redis, mirror to be built"]
KINDS: Final[tuple[Kind, ...]] = ("embedded", "Redis, mirror there", "Redis, mirror to be built")
FEW: Final = 1_000
"""Items of the start that the others are set against."""
USERS: Final = 1_000
WORKERS: Final = 2
MORE_MEMORY_MB: Final = 16_384
READY_SECONDS: Final = 60.0

METHOD = f"""\
One worker; ready is the first 200 of `/readyz`, asked for every 20 ms. A start with {FEW:,} items \
is the interpreter, the imports and the look at the catalogue; what more items take comes on top. \
*Embedded* maps the exported table, *mirror there* re-reads the host's copy against its checksums \
before it is mapped, *mirror to be built* copies all items from Redis first. All files are in the \
page cache. Memory is the proportional set size of all processes of the service, once every worker \
has its tables: a page that several of them map counts once. {USERS:,} users, f16, D = 64."""


@dataclass(frozen=True)
class Stores:
    """Where the same items lie, as URLs."""

    embedded: str
    redis: str
    mirrors: Path
    """Of the one in Redis; a folder of its own."""

    def url(self, kind: Kind) -> str:
        """Return the store that a kind of start reads."""
        return self.embedded if kind == "embedded" else self.redis

    @property
    def environment(self) -> Mapping[str, str]:
        """The service's settings."""
        return {"GKC_MIRROR_DIR": str(self.mirrors), "GKC_ITEM_MEMORY_MB": str(MORE_MEMORY_MB)}


@dataclass
class Found:
    """What was measured, a value for each round."""

    seconds: dict[tuple[Kind, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """From start to ready, by kind and number of items."""
    memory: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """MiB, by number of workers and of items."""

    def times(self, kind: Kind, items: int) -> list[float]:
        """Return each round's time over that of a start with few items."""
        pairs = zip(self.seconds[kind, items], self.seconds[kind, FEW], strict=True)
        return [more / few for more, few in pairs]

    def workers(self, items: int) -> list[float]:
        """Return each round's memory of several workers over that of one."""
        pairs = zip(self.memory[WORKERS, items], self.memory[1, items], strict=True)
        return [several / one for several, one in pairs]


def time_start(kind: Kind, stores: Stores, cores: Collection[int]) -> float:
    """Start the service, and stop it once it is ready.

    Parameters
    ----------
    kind : Kind
        From which store, and whether the mirror is there.
    stores : Stores
        The items.
    cores : collection of int
        Cores of the service.

    Returns
    -------
    float
        Seconds from the start of the process to ready.
    """
    if kind == "Redis, mirror to be built":
        shutil.rmtree(stores.mirrors, ignore_errors=True)
    port = free_port()
    command = our_service(stores.url(kind), port)
    log = stores.mirrors.with_suffix(".log")
    began = time.perf_counter()
    with serving(kind, command, port, cores, "/readyz", stores.environment, log):
        return time.perf_counter() - began


def measure_memory(stores: Stores, workers: int, cores: Collection[int]) -> float:
    """Return the memory of the service on Redis, MiB, once every worker has its tables.

    Parameters
    ----------
    stores : Stores
        The items.
    workers : int
        How many.
    cores : collection of int
        Cores of the service.

    Returns
    -------
    float
        MiB.

    Raises
    ------
    SystemExit
        If a worker does not load its tables.
    """
    port = free_port()
    command = our_service(stores.redis, port, "--workers", str(workers))
    log = stores.mirrors.with_suffix(".log")
    with serving("gkc serve", command, port, cores, "/readyz", stores.environment, log) as server:
        deadline = time.monotonic() + READY_SECONDS
        while count_loaded(log.read_text(encoding="utf-8")) < workers:
            if time.monotonic() > deadline:
                raise SystemExit(f"not all of {workers} workers loaded their tables: {log}")
            time.sleep(0.02)
        return server.proportional_mib()


def count_loaded(log: str) -> int:
    """Return how many generations the workers say they have loaded.

    Parameters
    ----------
    log : str
        Lines of JSON; the last one may not be whole yet.

    Returns
    -------
    int
        Over all workers.
    """
    lines = [line for line in log.splitlines(keepends=True) if line.endswith("}\n")]
    return sum(json.loads(line)["event"] == "generation_loaded" for line in lines)


def measure(
    stores: Mapping[int, Stores], cores: Collection[int], rounds: int, found: Found
) -> None:
    """Let all kinds and numbers of items take turns.

    Parameters
    ----------
    stores : mapping of int to Stores
        By number of items.
    cores : collection of int
        Cores of the service.
    rounds : int
        How many turns.
    found : Found
        Gets what was measured.
    """
    for _ in range(rounds):
        for kind in reversed(KINDS):  # one that builds the mirror before one that finds it
            for items, at in stores.items():
                found.seconds[kind, items].append(time_start(kind, at, cores))
        for items, at in stores.items():
            for workers in (1, WORKERS):
                found.memory[workers, items].append(measure_memory(at, workers, cores))


def section(found: Found, sizes: Sequence[int]) -> Section:
    """Put what was found in the form that is told; ``sizes`` without the few items."""
    cases = [(kind, items) for items in sizes for kind in KINDS]
    times = [
        Figure(
            f"start with {items:,} items, {kind}: against {FEW:,} items", found.times(kind, items)
        )
        for kind, items in cases
    ]
    seconds = [
        Figure(f"start with {items:,} items, {kind}", found.seconds[kind, items], unit="s")
        for items in (FEW, *sizes)
        for kind in KINDS
    ]
    ratios = [
        Figure(
            f"memory of {WORKERS} workers against one, {items:,} items",
            found.workers(items),
        )
        for items in sizes
    ]
    memory = [
        Figure(
            f"memory of {workers} worker{'s' * (workers > 1)}, {items:,} items",
            found.memory[workers, items],
            unit="MiB",
            digits=0,
        )
        for items in sizes
        for workers in (1, WORKERS)
    ]
    lines: dict[str, Line] = {
        kind: [(float(items), found.seconds[kind, items]) for items in (FEW, *sizes)]
        for kind in KINDS
    }
    by_workers: dict[str, Line] = {
        f"{workers} worker{'s' * (workers > 1)}": [
            (float(items), found.memory[workers, items]) for items in (FEW, *sizes)
        ]
        for workers in (1, WORKERS)
    }
    return Section(
        module="bench.start",
        title="Start and memory",
        method=METHOD,
        figures=(*times, *seconds, *ratios, *memory),
        curves=(
            Curve(
                name="start",
                title="From the start of the process to ready",
                x="items",
                y="seconds",
                lines=lines,
            ),
            Curve(
                name="start-memory",
                title="Memory of all workers",
                x="items",
                y="MiB",
                lines=by_workers,
            ),
        ),
    )


def main(
    save: Annotated[bool, typer.Option("--save", help="Keep the result for the page.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Repeats.")] = 4,
    items: Annotated[
        int, typer.Option(help="Most items; a tenth of them is measured as well.")
    ] = 10_000_000,
) -> None:
    """Measure starts and the memory of workers."""
    core, others = separate_cores()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with redis_serving(folder, others) as (_, url):
            sizes = (items // 10, items)
            stores = {
                size: _export(folder, size, f"{url.removesuffix('/0')}/{database}")
                for database, size in enumerate((FEW, *sizes))
            }
            found = Found()
            measure(stores, core, rounds, found)
    tell(section(found, sizes), save=save)


def _export(folder: Path, items: int, redis: str) -> Stores:
    """Export so many items into both stores."""
    shape = Shape(users=USERS, items=items)
    place = folder / str(items)
    place.mkdir()
    stores = Stores(f"file:{place}/store", redis, place / "mirrors")
    for store in (stores.embedded, stores.redis):
        export(place / "bundle", shape, store)
    return stores


if __name__ == "__main__":
    typer.run(main)
