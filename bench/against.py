"""What a change does: the service of two checkouts beside each other, asked in turns.

Each checkout exports the same bundles with its own exporter into a store of its own, and serves
them with its own packages. Start and memory are those of a service on a tiny embedded store.

    python -m bench.against [CHECKOUT] [--save]

Without CHECKOUT the other one is the commit that improvements are measured against, which is
unpacked and installed at the first run (`python -m bench.checkouts` does only that). A checkout of
your own, with its own packages:

    git worktree add --detach ../before COMMIT && make -C ../before install
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer

from bench.checkouts import HERE, Checkout, GivenCheckout, other_checkout
from bench.load import Load
from bench.results import Figure, Section, tell
from bench.stage import CONCURRENCY, Ask, Stage
from bench.world import VERSION, Shape, export, questions
from keep.served import SAFETENSORS

JSON: Final = "application/json"
BODIES: Final = 2_000
"""Distinct requests of a kind; of more than 500 rows, fewer."""
MOST_ROWS_WRITTEN: Final = 1_000_000
SHAPE: Final = Shape(users=20_000)
SMALL: Final = Shape(users=5_000, items=100_000)
TINY: Final = Shape(users=100, items=1_000)
SHAPES: Final[Mapping[str, Shape]] = {
    VERSION: SHAPE,
    "f16": SMALL,
    "f32": dataclasses.replace(SMALL, dtype="f32"),
    "int8": dataclasses.replace(SMALL, dtype="int8"),
    "wide": dataclasses.replace(SMALL, dim=192),
}
"""The versions that both serve."""
SEVERAL_USERS: Final = 50
SIDES: Final = ("here", "there")

Body = dict[str, Any]
Reshape = Callable[[Sequence[Body]], Iterable[Body]]


def as_rows(bodies: Sequence[Body]) -> Iterable[Body]:
    """Ask for whole rows."""
    return ({**body, "dtype": "f16"} for body in bodies)


def as_factors(bodies: Sequence[Body]) -> Iterable[Body]:
    """Ask for the distinct parts."""
    return ({**body, "layout": "factored"} for body in bodies)


def as_columns(bodies: Sequence[Body]) -> Iterable[Body]:
    """Ask as drawn, for JSON."""
    return bodies


def as_quadruples(bodies: Sequence[Body]) -> Iterable[Body]:
    """Ask by an object for each row."""
    return (
        {"quadruples": [{"u": body["u"], "i": item, "v": body["v"]} for item in body["i"]]}
        for body in bodies
    )


def as_many_users(bodies: Sequence[Body]) -> Iterable[Body]:
    """Let the rows name the users of this request and the next ones in turn."""
    users = [body["u"] for body in bodies]
    for number, body in enumerate(bodies):
        near = [users[(number + k) % len(users)] for k in range(SEVERAL_USERS)]
        several = [near[row % SEVERAL_USERS] for row in range(len(body["i"]))]
        yield {**body, "u": several, "dtype": "f16"}


def as_two_versions(bodies: Sequence[Body]) -> Iterable[Body]:
    """Let the rows name two versions in turn."""
    for body in bodies:
        named = [(body["v"], VERSION)[row % 2] for row in range(len(body["i"]))]
        yield {**body, "v": named, "dtype": "f16"}


@dataclass(frozen=True)
class Case:
    """One kind of request."""

    rows: int = 500
    concurrency: int = CONCURRENCY
    version: str = VERSION
    accept: str = SAFETENSORS
    ask: Reshape = as_rows


CASES: Final[Mapping[str, Case]] = {
    "B = 1, alone": Case(rows=1, concurrency=1),
    "B = 500, alone": Case(concurrency=1),
    "B = 1": Case(rows=1),
    "B = 50": Case(rows=50),
    "B = 500": Case(),
    "B = 500, factored": Case(ask=as_factors),
    "B = 500, JSON columns": Case(ask=as_columns, accept=JSON),
    "B = 500, JSON quadruples": Case(ask=as_quadruples, accept=JSON),
    "B = 500, 50 users": Case(ask=as_many_users),
    "B = 500, 2 versions": Case(ask=as_two_versions, version="f16"),
    "B = 500, D = 192": Case(version="wide"),
    "B = 500, 64 in flight": Case(concurrency=64),
    "B = 10,000": Case(rows=10_000),
    "B = 500, stored f16": Case(version="f16"),
    "B = 500, stored f32": Case(version="f32"),
    "B = 500, stored int8": Case(version="int8"),
}
"""By the name that figures have; of 4 requests under way unless it says otherwise."""
NO_WORSE: Final = 1.03
ALONE: Final = "B = 500, alone"
BEYOND_FEAST: Final = 1.3
STORED_F16: Final = "B = 500, stored f16"
STORED_OTHERWISE: Final = ("B = 500, stored f32", "B = 500, stored int8")

METHOD: Final = f"""\
This checkout and the commit before, each with its own exporter, store and packages, both on one \
core, asked in turns by wrk for the same knowledge: {SHAPE.users:,} users and {SHAPE.items:,} \
items for the first shapes, {SMALL.users:,} and {SMALL.items:,} for those that have a version of \
their own (D = 192, stored types). Safetensors rows in f16, 1 user by B items, 4 requests under \
way, D = {SHAPE.dim} and stored f16 unless a figure says otherwise. CPU time and page faults are \
the service's for each request. The p50 against Feast's is Feast's p50 over ours: set against the \
commit before, Feast's cancels out. Start is from the process to the first 200 of `/readyz`, asked \
for every 20 ms, and memory the resident set then, both of one worker on an embedded store of \
{TINY.users:,} users and {TINY.items:,} items."""


@dataclass
class Found:
    """What was measured; a pair of here and there for each round."""

    loads: dict[str, list[tuple[Load, Load]]] = field(default_factory=dict)
    start_seconds: list[tuple[float, float]] = field(default_factory=list)
    ready_mib: list[tuple[float, float]] = field(default_factory=list)


def main(
    other: GivenCheckout = None,
    *,
    rounds: Annotated[int, typer.Option(help="Runs of each kind of request.")] = 5,
    seconds: Annotated[int, typer.Option(help="Of one run.")] = 1,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Tell how requests, start and memory here compare with those there."""
    checkouts = HERE, other_checkout(other)
    with Stage() as stage:
        found = measure_starts(stage, checkouts, rounds)
        _, url = stage.redis()
        asked = {}
        for side, checkout in zip(SIDES, checkouts, strict=True):
            store = f"{url.removesuffix('/0')}/{SIDES.index(side)}"
            for version, shape in SHAPES.items():
                bundle = stage.folder / f"bundle-{shape.items}-{shape.dim}"
                export(bundle, shape, store, version, checkout=checkout)
            server = stage.serve(store, checkout=checkout)
            for name, case in CASES.items():
                bodies = stage.write(name, requests(case))
                asked[name, side] = Ask(server, bodies, case.accept, case.concurrency)
        runs = stage.in_turns(asked, rounds, seconds)
    for name in CASES:
        found.loads[name] = list(zip(*(runs[name, side] for side in SIDES), strict=True))
    tell(section(found), save=save)


def measure_starts(stage: Stage, checkouts: Sequence[Checkout], rounds: int) -> Found:
    """Start each service on a tiny embedded store, in turns; return seconds and memory."""
    found = Found()
    stores = [f"file:{stage.folder}/tiny-{side}" for side in SIDES]
    for checkout, store in zip(checkouts, stores, strict=True):
        export(stage.folder / "tiny", TINY, store, checkout=checkout)
    for _ in range(rounds):
        seconds, memory = [], []
        for checkout, store in zip(checkouts, stores, strict=True):
            with Stage() as alone:
                began = time.perf_counter()
                server = alone.serve(store, checkout=checkout)
                seconds.append(time.perf_counter() - began)
                memory.append(server.resident_mib())
        found.start_seconds.append((seconds[0], seconds[1]))
        found.ready_mib.append((memory[0], memory[1]))
    return found


def requests(case: Case) -> list[Body]:
    """Draw the requests of a case."""
    count = min(BODIES, MOST_ROWS_WRITTEN // case.rows)
    drawn = questions(SHAPES[case.version], case.rows, count, seed=1)
    return list(case.ask([{**body, "v": case.version} for body in drawn]))


def section(found: Found) -> Section:
    """Put what was found in the form that is told."""
    figures = [
        Figure(
            "p50 against Feast's, to the commit before",
            [there.p50_ms / here.p50_ms for here, there in found.loads[ALONE]],
            target=BEYOND_FEAST,
        ),
        Figure(
            "start to ready, embedded, to the commit before",
            [here / there for here, there in found.start_seconds],
            target=0.4,
            stretch=0.3,
            at_most=True,
        ),
        Figure("start to ready, embedded", [here for here, _ in found.start_seconds], unit="s"),
        Figure(
            "memory of a ready worker, tiny store, to the commit before",
            [here / there for here, there in found.ready_mib],
            target=0.5,
            at_most=True,
        ),
        Figure("memory of a ready worker", [here for here, _ in found.ready_mib], "MiB", digits=0),
    ]
    for name in STORED_OTHERWISE:
        pairs = zip(found.loads[name], found.loads[STORED_F16], strict=True)
        ratio = [one.cpu_ms / other.cpu_ms for (one, _), (other, _) in pairs]
        told = f"CPU time, {name}, to stored f16"
        figures.append(Figure(told, ratio, target=1.2, stretch=1.1, at_most=True))
    for name, loads in found.loads.items():
        cpu = [here.cpu_ms / there.cpu_ms for here, there in loads]
        told = f"CPU time to the commit before, {name}"
        figures.append(Figure(told, cpu, target=NO_WORSE, at_most=True))
        p50 = [here.p50_ms / there.p50_ms for here, there in loads]
        figures.append(Figure(f"p50 to the commit before, {name}", p50))
        figures.append(Figure(f"CPU time, {name}", [1000 * here.cpu_ms for here, _ in loads], "us"))
        faults = [here.page_faults for here, _ in loads]
        figures.append(Figure(f"page faults of a request, {name}", faults, ""))
    return Section(
        module="bench.against",
        title="Beside the commit before",
        method=METHOD,
        figures=figures,
    )


if __name__ == "__main__":
    typer.run(main)
