"""Throughput and CPU time of requests, as fractions of an empty FastAPI route and of others.

One worker on a core of its own; wrk and a Redis server of ours on the others. All servers run under
the same uvicorn options and get the same requests, in turns.

    python -m bench.throughput [--save]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import typer

from bench.exchange import JSON, answer_of, post
from bench.load import CONCURRENCY, Ask, Load
from bench.options import Rounds, Save, Seconds
from bench.processes import Server
from bench.results import Figure, Section, tell
from bench.stage import Stage, ratios
from bench.vectors import load_plain_keys
from bench.world import Shape, World
from gkc.knowledge import SAFETENSORS

SHAPE: Final = Shape(users=20_000)
BODIES: Final = 2_000
"""Distinct requests of each shape; a run goes round them."""
CHECKED: Final = 20
"""Of these, compared with the plain service's answers outside the timed runs."""
FACTORED: Final = "factored"
EMPTY_TARGETS: Final[Mapping[tuple[int, str], tuple[float, float]]] = {
    (1, "rows"): (0.60, 0.70),
    (50, "rows"): (0.55, 0.65),
    (500, "rows"): (0.32, 0.40),
    (500, FACTORED): (0.45, 0.60),
}
"""Target and stretch of rows and layout, for both rate and CPU time."""
WIRE_TARGETS: Final[Mapping[int, tuple[float, float]]] = {
    1: (0.60, 0.75),
    50: (0.60, 0.70),
    500: (0.50, 0.60),
}
"""The same beside the route that sends as many bytes, by rows."""
PLAIN_TARGETS: Final = (10.0, 20.0)
Asked = tuple[str, int, str]
"""Who is asked, for how many rows, in which layout."""


def main(*, rounds: Rounds = 9, seconds: Seconds = 1, save: Save = False) -> None:
    """Measure, and tell."""
    section = Section(
        module="bench.throughput",
        title="Requests per second, and CPU time of each",
        method=(
            f"1 user by B candidates, drawn evenly from {SHAPE.users:,} users and {SHAPE.items:,} "
            f"items, D = {SHAPE.dim}; JSON columnar request, safetensors answer in "
            f"f16, {CONCURRENCY} connections of wrk, each with one request under way. The empty "
            f"route is `bench/servers/empty.py`: a FastAPI `POST` that reads the same body and "
            f"returns nothing. The wire is `bench/servers/wire.py`: the same route, which returns "
            f"as many bytes as our answer has. The plain service is `bench/servers/plain.py`: one "
            f"pooled asyncio `MGET`, pydantic rows, JSON; its vectors lie under keys of their own "
            f"in the same Redis. All run under the options of `gkc serve`. {rounds} rounds of "
            f"{seconds} s for each, in turns. {CHECKED} answers of each shape are compared with "
            f"the plain service's."
        ),
        figures=figures(measure(SHAPE, rounds, seconds)),
    )
    tell(section, save=save)


def measure(
    shape: Shape, rounds: int, seconds: int, sizes: Sequence[int] = tuple(WIRE_TARGETS)
) -> dict[Asked, list[Load]]:
    """Export knowledge of a shape, and ask all servers for it in turns.

    Parameters
    ----------
    shape : Shape
        How much knowledge.
    rounds, seconds : int
        Runs of each kind of request, and how long one is.
    sizes : sequence of int
        Numbers of rows; the last is asked for as factors and of the plain service as well.
    """
    asked: dict[Asked, Ask] = {}
    with Stage() as stage:
        knowledge = stage.world(shape)
        ours, empty = stage.serve(knowledge.url), stage.reference("empty")
        plain = stage.reference("plain", "--redis", knowledge.url)
        load_plain_keys(knowledge)
        for rows in sizes:
            check_answers(knowledge, ours, plain, rows)
            drawn = knowledge.questions(rows, BODIES, seed=1, dtype="f16")
            columnar = stage.write(f"rows-{rows}", drawn)
            wire = stage.reference("wire", "--bytes", str(answer_bytes(knowledge, ours, rows)))
            for name, server in (("empty", empty), ("wire", wire), ("ours", ours)):
                asked[name, rows, "rows"] = Ask(server, columnar)
        most = sizes[-1]
        drawn = knowledge.questions(most, BODIES, seed=1, layout=FACTORED)
        asked["ours", most, FACTORED] = Ask(ours, stage.write(FACTORED, drawn))
        by_row = stage.write("plain", [plain_question(knowledge, body) for body in drawn])
        asked["plain", most, "rows"] = Ask(plain, by_row, JSON)
        return stage.in_turns(asked, rounds, seconds)


def answer_bytes(knowledge: World, ours: Server, rows: int) -> int:
    """Return how long our answer to so many rows is; all are equally long."""
    (body,) = knowledge.questions(rows, 1, seed=3, dtype="f16")
    return len(post(ours, body, SAFETENSORS))


def check_answers(knowledge: World, ours: Server, plain: Server, rows: int) -> None:
    """Compare some answers of ours with the plain service's.

    Raises
    ------
    SystemExit
        If a number differs after rounding to f16, or a status.
    """
    by_row = (0, 1, 3)  # the product has no status in the plain service
    for body in knowledge.questions(rows, CHECKED, seed=2, dtype="f16"):
        answer = answer_of(ours, body)
        told = json.loads(post(plain, plain_question(knowledge, body)))
        same = np.array_equal(answer["knowledge"], np.array(told["knowledge"], dtype=np.float16))
        if not same or (answer["status"][:, by_row] != np.array(told["status"])).any():
            raise SystemExit(f"ours and the plain service answer unlike: {body}")


def plain_question(knowledge: World, body: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the plain service for what a columnar request asks for: an object for each row."""
    return {
        "quadruples": [
            {"u": body["u"], "i": item, "c": knowledge.category_of(item), "v": body["v"]}
            for item in body["i"]
        ]
    }


def figures(runs: Mapping[Asked, Sequence[Load]]) -> list[Figure]:
    """Compare the runs of one round with each other."""
    shown = []
    for (rows, layout), bounds in EMPTY_TARGETS.items():
        ours, what = runs["ours", rows, layout], f"B = {rows}, {layout}"
        shown += compared(
            f"of the empty route's, {what}", ours, runs["empty", rows, "rows"], bounds
        )
        if layout == "rows":
            wire = runs["wire", rows, layout]
            shown += compared(f"of the wire's, {what}", ours, wire, WIRE_TARGETS[rows])
        shown += [
            Figure(f"requests/s, {what}", [run.rate for run in ours], "/s", digits=0),
            Figure(f"CPU time, {what}", [run.cpu_ms * 1000 for run in ours], "us"),
            Figure(f"page faults of a request, {what}", [run.page_faults for run in ours], ""),
        ]
    most = max(WIRE_TARGETS)
    ours, plain = (runs[name, most, "rows"] for name in ("ours", "plain"))
    rate = ratios([run.rate for run in ours], [run.rate for run in plain])
    shown.append(Figure(f"rate of the plain service's, B = {most}", rate, "times", *PLAIN_TARGETS))
    return shown


def compared(
    told: str, ours: Sequence[Load], others: Sequence[Load], bounds: tuple[float, float]
) -> list[Figure]:
    """Set our rate against another's, by CPU time and by the clock."""
    cpu = ratios([run.cpu_ms for run in others], [run.cpu_ms for run in ours])
    rate = ratios([run.rate for run in ours], [run.rate for run in others])
    return [
        Figure(f"{name} {told}", values, "times", *bounds)
        for name, values in (("rate by CPU time", cpu), ("rate", rate))
    ]


if __name__ == "__main__":
    typer.run(main)
