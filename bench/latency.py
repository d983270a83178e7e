"""Time of one request alone, beside fetching the same keys and beside computing them online.

``POST /knowledge`` at concurrency 1 takes turns with redis-py's ``MGET`` of the same 501 keys from
the same Redis without any HTTP, blocking and asyncio, and with the teacher in onnxruntime.

    python -m bench.latency [--save]
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Final

import redis
import redis.asyncio
import typer
import uvloop

from bench.online_teacher import OnlineTeacher, write_teacher
from bench.plain_keys import load_plain_keys
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import Ask, Stage, ratios
from bench.world import Shape

ROWS: Final = 500
BODIES: Final = 2_000
CALLS: Final = 300
"""Of each reading reference in a round; a round's time is their median."""
TEACHER_CALLS: Final = 60


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Repeats of everything.")] = 15,
    seconds: Annotated[int, typer.Option(help="Of one run of wrk.")] = 1,
    users: Annotated[int, typer.Option(help="Users of the version.")] = 20_000,
    items: Annotated[int, typer.Option(help="Items of the version.")] = Shape.items,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Measure in turns, and tell."""
    shape = Shape(users=users, items=items)
    with Stage() as stage:
        knowledge = stage.world(shape)
        ours = stage.serve(knowledge.url)
        load_plain_keys(knowledge, ours)
        questions = knowledge.questions(ROWS, BODIES, seed=1)
        bodies = stage.write("rows", [{**body, "dtype": "f16"} for body in questions])
        keys = [keys_of(body) for body in questions]
        write_teacher(stage.folder / "teacher.onnx")
        os.sched_setaffinity(0, stage.own)  # the references stand where the service stands
        teacher = OnlineTeacher(stage.folder / "teacher.onnx", stage.own)
        client = redis.Redis.from_url(knowledge.url)
        measures: dict[str, Callable[[], float]] = {
            "ours": lambda: stage.ask(Ask(ours, bodies, concurrency=1), seconds).p50_ms,
            "MGET": lambda: 1000 * mget_seconds(client, keys),
            "asyncio MGET": lambda: 1000 * uvloop.run(asyncio_mget_seconds(knowledge.url, keys)),
            "teacher": lambda: 1000 * median_of(TEACHER_CALLS, lambda _: teacher.seconds(ROWS)),
        }
        times: dict[str, list[float]] = {name: [] for name in measures}
        for _ in range(rounds):
            for name, measure in measures.items():
                times[name].append(measure())
    tell(section(times, shape, rounds), save=save)


def mget_seconds(client: redis.Redis, keys: Sequence[Sequence[str]]) -> float:
    """Return the median time of blocking reads."""

    def seconds(call: int) -> float:
        began = time.perf_counter()
        refuse_missing(client.mget(keys[call % len(keys)]))
        return time.perf_counter() - began

    return median_of(CALLS, seconds)


async def asyncio_mget_seconds(url: str, keys: Sequence[Sequence[str]]) -> float:
    """Return the median time of reads on an event loop."""
    times = []
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.ping()
        for call in range(CALLS):
            began = time.perf_counter()
            refuse_missing(await client.mget(keys[call % len(keys)]))
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def median_of(calls: int, seconds: Callable[[int], float]) -> float:
    """Return the median of so many calls."""
    return statistics.median(seconds(call) for call in range(calls))


def refuse_missing(values: Collection[Any]) -> None:
    """Check that every key was there.

    Raises
    ------
    SystemExit
        If not.
    """
    if None in values:
        raise SystemExit("a key is missing: the references would do less than we do")


def keys_of(body: Mapping[str, Any]) -> list[str]:
    """Name what the plain layout holds of a request: its user and its items."""
    user, version = body["u"], body["v"]
    return [f"{version}:u:{user}", *(f"{version}:i:{item}" for item in body["i"])]


def section(times: Mapping[str, Sequence[float]], shape: Shape, rounds: int) -> Section:
    """Put the milliseconds of each round in the form that is told."""
    bounds: dict[str, Any] = {"target": 0.6, "stretch": 0.45, "at_most": True}
    figures = [
        Figure(
            f"p50 over HTTP to p50 of redis-py's MGET, B = {ROWS}",
            ratios(times["ours"], times["MGET"]),
            **bounds,
        ),
        Figure(
            f"the same to redis-py's asyncio MGET, B = {ROWS}",
            ratios(times["ours"], times["asyncio MGET"]),
        ),
        Figure(
            f"p50 of the teacher in onnxruntime to p50 over HTTP, B = {ROWS}",
            ratios(times["teacher"], times["ours"]),
            target=20,
            stretch=50,
            digits=1,
        ),
        Figure(f"p50 over HTTP, B = {ROWS}", times["ours"], "ms"),
    ]
    told = "; ".join(f"{name} {spread(values, 3)} ms" for name, values in times.items())
    return Section(
        module="bench.latency",
        title="One request alone",
        method=(
            f"1 user by {ROWS} candidates, drawn evenly, D = {shape.dim}, safetensors rows in f16, "
            f"one request under way. The references run on the core of the service, without HTTP: "
            f"`MGET` of the user's key and the {ROWS} items' keys ({2 * shape.dim} bytes each) by "
            f"redis-py with hiredis, without decoding the values, pairs or arithmetic; and the "
            f"teacher of the default widths (three tasks, 192 numbers a row) in onnxruntime, on "
            f"one thread, its inputs at hand. {rounds} rounds; a reference's time in a round is "
            f"the median of {CALLS} calls, {TEACHER_CALLS} of the teacher."
        ),
        figures=figures,
        notes=[f"p50: {told}."],
        packages=("hiredis",),
    )


if __name__ == "__main__":
    typer.run(main)
