"""Time of one request alone, beside fetching the same keys and beside computing them online.

``POST /knowledge`` at concurrency 1 takes turns with redis-py's ``MGET`` of the same 501 keys from
the same Redis without any HTTP, blocking and asyncio, and with the teacher in onnxruntime.

    python -m bench.latency [--save]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import redis
import redis.asyncio
import typer
import uvloop

from bench.load import Ask
from bench.online_teacher import online_teacher, teacher_seconds
from bench.options import Rounds, Save, Seconds
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import Stage, in_turns, ratios
from bench.timing import loop_median_seconds, median_seconds
from bench.vectors import load_plain_keys
from bench.world import Shape

SHAPE: Final = Shape(users=20_000)
ROWS: Final = 500
BODIES: Final = 2_000
CALLS: Final = 300
"""Of each reading reference in a round; a round's time is their median."""
TEACHER_CALLS: Final = 60


def main(*, rounds: Rounds = 15, seconds: Seconds = 1, save: Save = False) -> None:
    """Measure in turns, and tell."""
    with Stage() as stage:
        knowledge = stage.world(SHAPE)
        ours = stage.serve(knowledge.url)
        load_plain_keys(knowledge)
        questions = knowledge.questions(ROWS, BODIES, seed=1, dtype="f16")
        bodies = stage.write("rows", questions)
        keys = [keys_of(body) for body in questions[:CALLS]]
        os.sched_setaffinity(
            0, stage.service_cores
        )  # the references stand where the service stands
        teacher = online_teacher(stage.folder / "teacher.onnx", len(stage.service_cores))
        client = redis.Redis.from_url(knowledge.url)
        measures: dict[str, Callable[[], float]] = {
            "ours": lambda: stage.ask(Ask(ours, bodies, concurrency=1), seconds).p50_ms,
            "MGET": lambda: 1000 * mget_seconds(client, keys),
            "asyncio MGET": lambda: 1000 * uvloop.run(asyncio_mget_seconds(knowledge.url, keys)),
            "teacher": lambda: 1000 * teacher_seconds(teacher, ROWS, TEACHER_CALLS),
        }
        times = in_turns(measures, rounds)
    tell(section(times), save=save)


def mget_seconds(client: redis.Redis, keys: Sequence[Sequence[str]]) -> float:
    """Return the median time of blocking reads."""
    return median_seconds(lambda names: refuse_missing(client.mget(names)), keys)


async def asyncio_mget_seconds(url: str, keys: Sequence[Sequence[str]]) -> float:
    """Return the median time of reads on an event loop."""
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.ping()

        async def read(names: Sequence[str]) -> None:
            refuse_missing(await client.mget(names))

        return await loop_median_seconds(read, keys)


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


def section(times: Mapping[str, Sequence[float]]) -> Section:
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
            f"1 user by {ROWS} candidates, drawn evenly, D = {SHAPE.dim}, safetensors rows in f16, "
            f"one request under way. The references run on the core of the service, without HTTP: "
            f"`MGET` of the user's key and the {ROWS} items' keys ({2 * SHAPE.dim} bytes each) by "
            f"redis-py with hiredis, without decoding the values, pairs or arithmetic; and the "
            f"teacher of the default widths (three tasks, 192 numbers a row) in onnxruntime, on "
            f"one thread, its inputs at hand. {len(times['ours'])} rounds; a reference's time in a "
            f"round is the median of {CALLS} calls, {TEACHER_CALLS} of the teacher."
        ),
        figures=figures,
        notes=[f"p50: {told}."],
        packages=("hiredis",),
    )


if __name__ == "__main__":
    typer.run(main)
