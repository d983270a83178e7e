"""Throughput and CPU time of requests, as fractions of an empty FastAPI route and of others.

One worker on a core of its own; wrk and a Redis server of ours on the others. All servers run under
the same uvicorn options and get the same requests, in turns.

    python -m bench.throughput [--save]
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from bench.load import Load, load, write_bodies
from bench.plain_keys import load_plain_keys
from bench.processes import (
    Server,
    free_port,
    our_service,
    reference,
    separate_cores,
    serving,
)
from bench.results import Figure, Section, tell
from bench.world import Shape, World, world
from keep.served import SAFETENSORS, ServedKnowledge, decode_safetensors

CONCURRENCY: Final = 4
BODIES: Final = 2_000
"""Distinct requests of each shape; a run goes round them."""
CHECKED: Final = 20
"""Of these, compared with the plain service's answers outside the timed runs."""
ROWS: Final = (1, 50, 500)
MOST: Final = max(ROWS)
FACTORED: Final = "factored"
TARGETS: Final[Mapping[tuple[int, str], tuple[float, float]]] = {
    (1, "rows"): (0.60, 0.70),
    (50, "rows"): (0.55, 0.65),
    (500, "rows"): (0.32, 0.40),
    (500, FACTORED): (0.45, 0.60),
}
"""Of the empty route: target and stretch of rows and layout, for both rate and CPU time."""
WIRE_TARGETS: Final[Mapping[int, tuple[float, float]]] = {
    1: (0.60, 0.75),
    50: (0.60, 0.70),
    500: (0.50, 0.60),
}
"""Of the route that sends as many bytes: the same by rows."""
PLAIN_TARGETS: Final = (10.0, 20.0)


@dataclass(frozen=True)
class _Case:
    """Requests of one kind to one server."""

    server: Server
    rows: int
    layout: str
    bodies: Path
    accept: str
    runs: list[Load] = field(default_factory=list)


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Runs of each kind of request.")] = 9,
    seconds: Annotated[int, typer.Option(help="Of one run.")] = 1,
    users: Annotated[int, typer.Option(help="Users of the version.")] = 20_000,
    items: Annotated[int, typer.Option(help="Items of the version.")] = Shape.items,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Measure, and tell."""
    shape = Shape(users=users, items=items)
    section = Section(
        module="bench.throughput",
        title="Requests per second, and CPU time of each",
        method=(
            f"1 user by B candidates, drawn evenly from {users:,} users and {items:,} items, "
            f"D = {shape.dim}; JSON columnar request, safetensors answer in "
            f"f16, {CONCURRENCY} connections of wrk, each with one request under way. The empty "
            f"route is `bench/servers/empty.py`: a FastAPI `POST` that reads the same body and "
            f"returns nothing. The wire is `bench/servers/wire.py`: the same route, which returns "
            f"as many bytes as our answer has. The plain service is `bench/servers/plain.py`: one "
            f"pooled asyncio `MGET`, pydantic rows, JSON; its vectors lie under keys of their own "
            f"in the same Redis. All run under the options of `gkc serve`. {rounds} rounds of "
            f"{seconds} s for each, in turns. {CHECKED} answers of each shape are compared with "
            f"the plain service's."
        ),
        figures=measure(shape, rounds, seconds),
    )
    tell(section, save=save)


def measure(shape: Shape, rounds: int, seconds: int) -> list[Figure]:
    """Export knowledge of a shape and measure requests for it.

    Parameters
    ----------
    shape : Shape
        How much knowledge.
    rounds : int
        Runs of each kind of request.
    seconds : int
        Of a run.

    Returns
    -------
    list of Figure
        Ratios, then what they are ratios of.
    """
    own, others = separate_cores()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        knowledge = stack.enter_context(world(folder, shape, others))

        def start(name: str, command: Sequence[str], port: int, ready: str | None = None) -> Server:
            return stack.enter_context(serving(name, command, port, own, ready))

        port = free_port()
        ours = start("gkc serve", our_service(knowledge.url, port), port, "/readyz")
        load_plain_keys(knowledge, ours)
        port = free_port()
        plain = start("plain", reference("plain", port, "--redis", knowledge.url), port)
        port = free_port()
        empty = start("empty", reference("empty", port), port)
        wires = {}
        for rows in ROWS:
            check_answers(knowledge, ours, plain, rows)
            port, size = free_port(), answer_bytes(knowledge, ours, rows)
            wires[rows] = start("wire", reference("wire", port, "--bytes", str(size)), port)
        cases = _cases(knowledge, ours, plain, empty, wires)
        for number in range(rounds):
            # Who goes first changes, so that what else the machine does favours nobody.
            for case in cases[number % len(cases) :] + cases[: number % len(cases)]:
                case.runs.append(
                    load(
                        case.server,
                        case.bodies,
                        case.accept,
                        others,
                        concurrency=CONCURRENCY,
                        seconds=seconds,
                    )
                )
        for case in cases:
            if any(run.failed or not run.requests for run in case.runs):
                raise SystemExit(f"{case.server.name}, B = {case.rows}: requests failed")
        return _figures(cases)


def answer_bytes(knowledge: World, ours: Server, rows: int) -> int:
    """Return how long our answer to so many rows is; all are equally long."""
    (body,) = knowledge.questions(rows, 1, seed=3)
    with ServedKnowledge(f"http://127.0.0.1:{ours.port}", str(body["v"])) as client:
        return len(client.ask({**body, "dtype": "f16"}, SAFETENSORS))


def check_answers(knowledge: World, ours: Server, plain: Server, rows: int) -> None:
    """Compare some answers of ours with the plain service's.

    Parameters
    ----------
    knowledge : World
        What both serve.
    ours, plain : Server
        Both services.
    rows : int
        Of a request.

    Raises
    ------
    SystemExit
        If a number differs after rounding to f16, or a status.
    """
    by_row = (0, 1, 3)  # the product has no status in the plain service
    for body in knowledge.questions(rows, CHECKED, seed=2):
        asked = {**body, "dtype": "f16"}
        with ServedKnowledge(f"http://127.0.0.1:{ours.port}", str(body["v"])) as client:
            found = decode_safetensors(client.ask(asked, SAFETENSORS))
        with ServedKnowledge(f"http://127.0.0.1:{plain.port}", str(body["v"])) as client:
            expected = client.ask(plain_question(knowledge, body), "application/json")
        answer = json.loads(expected)
        same = np.array_equal(found["knowledge"], np.array(answer["knowledge"], dtype=np.float16))
        if not same or (found["status"][:, by_row] != np.array(answer["status"])).any():
            raise SystemExit(f"ours and the plain service answer unlike: {body}")


def plain_question(knowledge: World, body: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the plain service for what a columnar request asks for: an object for each row.

    Parameters
    ----------
    knowledge : World
        Knows the items' categories.
    body : mapping
        One of ``World.questions``.

    Returns
    -------
    dict
        The body of the plain service's request.
    """
    return {
        "quadruples": [
            {"u": body["u"], "i": item, "c": knowledge.category_of(item), "v": body["v"]}
            for item in body["i"]
        ]
    }


def _cases(
    knowledge: World, ours: Server, plain: Server, empty: Server, wires: Mapping[int, Server]
) -> list[_Case]:
    """Write the requests of every kind."""
    cases = []
    for rows in ROWS:
        asked = [{**body, "dtype": "f16"} for body in knowledge.questions(rows, BODIES, seed=1)]
        columnar = write_bodies(asked, knowledge.folder / f"rows-{rows}.jsonl")
        cases.append(_Case(empty, rows, "", columnar, SAFETENSORS))
        cases.append(_Case(wires[rows], rows, "", columnar, SAFETENSORS))
        cases.append(_Case(ours, rows, "rows", columnar, SAFETENSORS))
        if rows == MOST:
            factored = write_bodies(
                [{**body, "layout": FACTORED} for body in asked],
                knowledge.folder / "factored.jsonl",
            )
            cases.append(_Case(ours, rows, FACTORED, factored, SAFETENSORS))
            by_row = write_bodies(
                [plain_question(knowledge, body) for body in asked],
                knowledge.folder / "plain.jsonl",
            )
            cases.append(_Case(plain, rows, "", by_row, "application/json"))
    return cases


def _figures(cases: Sequence[_Case]) -> list[Figure]:
    """Compare the runs of one round with each other."""
    runs = {(case.server.name, case.rows, case.layout): case.runs for case in cases}
    figures = []
    for (rows, layout), bounds in TARGETS.items():
        ours, what = runs["gkc serve", rows, layout], f"B = {rows}, {layout}"
        figures += _compared(f"of the empty route's, {what}", ours, runs["empty", rows, ""], bounds)
        if layout == "rows":
            wire, bounds = runs["wire", rows, ""], WIRE_TARGETS[rows]
            figures += _compared(f"of the wire's, {what}", ours, wire, bounds)
        figures.append(Figure(f"requests/s, {what}", [run.rate for run in ours], "/s", digits=0))
        figures.append(Figure(f"CPU time, {what}", [run.cpu_ms * 1000 for run in ours], "us"))
        figures.append(
            Figure(f"page faults of a request, {what}", [run.page_faults for run in ours], "")
        )
    ours, plain = runs["gkc serve", MOST, "rows"], runs["plain", MOST, ""]
    rate = [one.rate / other.rate for one, other in zip(ours, plain, strict=True)]
    told = f"rate of the plain service's, B = {MOST}"
    figures.append(Figure(told, rate, "times", *PLAIN_TARGETS))
    return figures


def _compared(
    told: str, ours: Sequence[Load], others: Sequence[Load], bounds: tuple[float, float]
) -> list[Figure]:
    """Set our rate against another's, by CPU time and by the clock."""
    cpu = [other.cpu_ms / one.cpu_ms for one, other in zip(ours, others, strict=True)]
    rate = [one.rate / other.rate for one, other in zip(ours, others, strict=True)]
    return [
        Figure(f"{name} {told}", values, "times", *bounds)
        for name, values in (("rate by CPU time", cpu), ("rate", rate))
    ]


if __name__ == "__main__":
    typer.run(main)
