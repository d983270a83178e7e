"""What a change does: the service of two checkouts beside each other, asked in turns.

Each checkout exports the same bundles with its own exporter into a store of its own, and serves
them with its own packages. Start and memory are those of a service on a tiny embedded store.

    python -m bench.against [CHECKOUT] [--few --rounds 20] [--save]

Without CHECKOUT the other one is the commit that improvements are measured against, which is
unpacked and installed at the first run (`python -m bench.checkouts` does only that). A checkout of
your own, with its own packages:

    git worktree add --detach ../before COMMIT && make -C ../before install
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Final

import numpy as np
import typer

from bench.checkouts import HERE, Checkout, GivenCheckout, other_checkout
from bench.exchange import JSON
from bench.load import CONCURRENCY, Ask, Load
from bench.options import Rounds, Save, Seconds
from bench.results import Figure, Section, tell
from bench.stage import Stage, in_turns, ratios
from bench.world import VERSION, Body, Shape, export, of_users, questions
from gkc.knowledge import SAFETENSORS

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

Reshape = Callable[[Sequence[Body]], Sequence[Body]]


def as_quadruples(bodies: Sequence[Body]) -> Sequence[Body]:
    """Ask by an object for each row."""
    return [
        {"quadruples": [{"u": body["u"], "i": item, "v": body["v"]} for item in body["i"]]}
        for body in bodies
    ]


def of_several_users(bodies: Sequence[Body]) -> Sequence[Body]:
    """Let the rows name the users of this request and the next ones in turn."""
    return of_users(bodies, SEVERAL_USERS)


def of_two_versions(bodies: Sequence[Body]) -> Sequence[Body]:
    """Let the rows name two versions in turn."""
    return [
        {**body, "v": [(body["v"], VERSION)[row % 2] for row in range(len(body["i"]))]}
        for body in bodies
    ]


@dataclass(frozen=True)
class Case:
    """One kind of request."""

    rows: int = 500
    concurrency: int = CONCURRENCY
    version: str = VERSION
    accept: str = SAFETENSORS
    options: Mapping[str, str] = field(default_factory=lambda: {"dtype": "f16"})
    """What a body says besides."""
    reshape: Reshape = list


CASES: Final[Mapping[str, Case]] = {
    "B = 1, alone": Case(rows=1, concurrency=1),
    "B = 500, alone": Case(concurrency=1),
    "B = 1": Case(rows=1),
    "B = 50": Case(rows=50),
    "B = 500": Case(),
    "B = 500, factored": Case(options={"layout": "factored"}),
    "B = 500, JSON columns": Case(accept=JSON, options={}),
    "B = 500, JSON quadruples": Case(accept=JSON, options={}, reshape=as_quadruples),
    "B = 500, 50 users": Case(reshape=of_several_users),
    "B = 500, 2 versions": Case(version="f16", reshape=of_two_versions),
    "B = 500, D = 192": Case(version="wide"),
    "B = 500, 64 in flight": Case(concurrency=64),
    "B = 10,000": Case(rows=10_000),
    "B = 500, stored f16": Case(version="f16"),
    "B = 500, stored f32": Case(version="f32"),
    "B = 500, stored int8": Case(version="int8"),
}
"""By the name that figures have; of 4 requests under way unless it says otherwise."""
NO_WORSE: Final = 1.03
AT_LEAST: Final = {"B = 1": 0.90, "B = 50": 0.96, "B = 500": 0.96}
"""Of the commit before's CPU time to this one's, the lower end of the interval."""
DRAWS: Final = 10_000
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
{TINY.users:,} users and {TINY.items:,} items. The lower end is that of the 95 % interval of the \
mean of the rounds' ratios (bootstrap); `--few --rounds 20` narrows it."""


@dataclass(frozen=True)
class Start:
    """One start of a service: seconds until it was ready, and the memory it had then."""

    seconds: float
    ready_mib: float


Loads = Mapping[tuple[str, str], Sequence[Load]]
"""By case and side: a run of each round."""
Starts = Mapping[str, Sequence[Start]]
"""By side: a start of each round."""


def main(
    other: GivenCheckout = None,
    *,
    rounds: Rounds = 4,
    seconds: Seconds = 1,
    few: Annotated[
        bool, typer.Option("--few", help="Only requests of 1, 50 and 500 rows; for many rounds.")
    ] = False,
    save: Save = False,
) -> None:
    """Tell how requests, start and memory here compare with those there."""
    checkouts = dict(zip(SIDES, (HERE, other_checkout(other)), strict=True))
    cases = {name: CASES[name] for name in AT_LEAST} if few else CASES
    with Stage() as stage:
        starts = {} if few else measure_starts(stage, checkouts, rounds)
        redis, asked = stage.redis(), {}
        for database, (side, checkout) in enumerate(checkouts.items()):
            store = redis.redis_url(database)
            for version in dict.fromkeys(case.version for case in cases.values()):
                shape = SHAPES[version]
                bundle = stage.folder / f"bundle-{shape.items}-{shape.dim}"
                export(bundle, shape, store, version, checkout=checkout)
            server = stage.serve(store, checkout=checkout)
            for name, case in cases.items():
                bodies = stage.write(name, requests(case))
                asked[name, side] = Ask(server, bodies, case.accept, case.concurrency)
        loads = stage.in_turns(asked, rounds, seconds)
    tell(section(loads, starts), save=save)


def measure_starts(stage: Stage, checkouts: Mapping[str, Checkout], rounds: int) -> Starts:
    """Start the service of each side on a tiny embedded store, in turns."""
    measures = {}
    for side, checkout in checkouts.items():
        store = f"file:{stage.folder}/tiny-{side}"
        export(stage.folder / "tiny", TINY, store, checkout=checkout)
        measures[side] = partial(start, checkout, store)
    return in_turns(measures, rounds)


def start(checkout: Checkout, store: str) -> Start:
    """Start a service, and stop it once it is ready."""
    with Stage() as alone:
        began = time.perf_counter()
        server = alone.serve(store, checkout=checkout)
        return Start(time.perf_counter() - began, server.resident_mib())


def requests(case: Case) -> Sequence[Body]:
    """Draw the requests of a case."""
    count = min(BODIES, MOST_ROWS_WRITTEN // case.rows)
    more = {"v": case.version, **case.options}
    return case.reshape(questions(SHAPES[case.version], case.rows, count, seed=1, **more))


def section(loads: Loads, starts: Starts) -> Section:
    """Put what was found in the form that is told."""
    cpu_ms = {what: [run.cpu_ms for run in runs] for what, runs in loads.items()}
    p50_ms = {what: [run.p50_ms for run in runs] for what, runs in loads.items()}
    at_most = partial(Figure, at_most=True)
    cases = [name for name in CASES if (name, "here") in loads]
    figures = start_figures(starts) if starts else []
    if ALONE in cases:
        p50 = ratios(p50_ms[ALONE, "there"], p50_ms[ALONE, "here"])
        told = "p50 against Feast's, to the commit before"
        figures.insert(0, Figure(told, p50, target=BEYOND_FEAST))
    for name in STORED_OTHERWISE if STORED_F16 in cases else ():
        cpu = ratios(cpu_ms[name, "here"], cpu_ms[STORED_F16, "here"])
        figures.append(at_most(f"CPU time, {name}, to stored f16", cpu, target=1.2, stretch=1.1))
    for name, bound in AT_LEAST.items() if AT_LEAST.keys() <= set(cases) else ():
        lower = lower_end(ratios(cpu_ms[name, "there"], cpu_ms[name, "here"]))
        told = f"CPU time of the commit before to ours, {name}: lower end of 95 %"
        figures.append(Figure(told, [lower], target=bound, digits=3))
    for name in cases:
        here, there = (name, "here"), (name, "there")
        cpu, p50 = ratios(cpu_ms[here], cpu_ms[there]), ratios(p50_ms[here], p50_ms[there])
        faults = [run.page_faults for run in loads[here]]
        figures += [
            at_most(f"CPU time to the commit before, {name}", cpu, target=NO_WORSE),
            Figure(f"p50 to the commit before, {name}", p50),
            Figure(f"CPU time, {name}", [1000 * ms for ms in cpu_ms[here]], "us"),
            Figure(f"page faults of a request, {name}", faults, ""),
        ]
    return Section(
        module="bench.against",
        title="Beside the commit before",
        method=METHOD,
        figures=figures,
    )


def start_figures(starts: Starts) -> list[Figure]:
    """Set start and memory here against those there."""
    seconds = {side: [start.seconds for start in starts[side]] for side in SIDES}
    mib = {side: [start.ready_mib for start in starts[side]] for side in SIDES}
    at_most = partial(Figure, at_most=True)
    return [
        at_most(
            "start to ready, embedded, to the commit before",
            ratios(seconds["here"], seconds["there"]),
            target=0.4,
            stretch=0.3,
        ),
        Figure("start to ready, embedded", seconds["here"], unit="s"),
        at_most(
            "memory of a ready worker, tiny store, to the commit before",
            ratios(mib["here"], mib["there"]),
            target=0.5,
        ),
        Figure("memory of a ready worker", mib["here"], "MiB", digits=0),
    ]


def lower_end(values: Sequence[float]) -> float:
    """Return where the 95 % interval of the mean of some values begins, by bootstrap over them."""
    draws = np.random.default_rng(0).choice(values, (DRAWS, len(values)))
    return float(np.quantile(draws.mean(axis=1), 0.025))


if __name__ == "__main__":
    typer.run(main)
