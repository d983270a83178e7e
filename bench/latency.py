"""Time of one request alone, beside fetching the same keys and beside computing them online.

``POST /knowledge`` at concurrency 1 takes turns with redis-py's ``MGET`` of the same 501 keys from
the same Redis without any HTTP, blocking and asyncio, and with the teacher in onnxruntime.

    python -m bench.latency [--save]
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import redis
import redis.asyncio
import typer
import uvloop

from bench.load import load, write_bodies
from bench.online_teacher import OnlineTeacher, write_teacher
from bench.plain_keys import load_plain_keys
from bench.processes import free_port, our_service, separate_cores, serving
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.world import Shape, World, world
from keep.served import SAFETENSORS

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
    own, others = separate_cores()
    shape = Shape(users=users, items=items)
    with tempfile.TemporaryDirectory() as scratch, world(Path(scratch), shape, others) as knowledge:
        port = free_port()
        command = our_service(knowledge.url, port)
        with serving("gkc serve", command, port, own, "/readyz") as ours:
            load_plain_keys(knowledge, ours)
            questions = knowledge.questions(ROWS, BODIES, seed=1)
            asked = [{**body, "dtype": "f16"} for body in questions]
            bodies = write_bodies(asked, knowledge.folder / "rows.jsonl")
            keys = [_keys(body) for body in questions]
            teacher_file = knowledge.folder / "teacher.onnx"
            write_teacher(teacher_file)
            os.sched_setaffinity(0, own)  # the references stand where the service stands
            references = _references(knowledge, keys, OnlineTeacher(teacher_file, own))
            times: dict[str, list[float]] = {"ours": [], **{name: [] for name in references}}
            for _ in range(rounds):
                found = load(ours, bodies, SAFETENSORS, others, concurrency=1, seconds=seconds)
                if found.failed or not found.requests:
                    raise SystemExit(f"{found.failed} of {found.requests} requests failed")
                times["ours"].append(found.p50_ms)
                for name, measure in references.items():
                    times[name].append(1000 * measure())
    tell(_section(times, shape, rounds), save=save)


def _references(
    knowledge: World, keys: Sequence[Sequence[str]], teacher: OnlineTeacher
) -> dict[str, Callable[[], float]]:
    """Return what is timed beside us, by name: each gives the median of a round, in seconds."""
    blocking = redis.Redis.from_url(knowledge.url)
    return {
        "MGET": lambda: _median(CALLS, lambda call: _timed(blocking, keys[call % len(keys)])),
        "asyncio MGET": lambda: uvloop.run(_median_of_asyncio(knowledge.url, keys)),
        "teacher": lambda: _median(TEACHER_CALLS, lambda _: teacher.seconds(ROWS)),
    }


def _median(calls: int, seconds: Callable[[int], float]) -> float:
    return statistics.median(seconds(call) for call in range(calls))


def _timed(client: redis.Redis, keys: Sequence[str]) -> float:
    began = time.perf_counter()
    _check(client.mget(keys))
    return time.perf_counter() - began


async def _median_of_asyncio(url: str, keys: Sequence[Sequence[str]]) -> float:
    times = []
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.ping()
        for call in range(CALLS):
            began = time.perf_counter()
            _check(await client.mget(keys[call % len(keys)]))
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _check(values: Collection[Any]) -> None:
    if None in values:
        raise SystemExit("a key is missing: the references would do less than we do")


def _keys(body: dict[str, Any]) -> list[str]:
    """Name what the plain layout holds of a request: its user and its items."""
    user, version = body["u"], body["v"]
    return [f"{version}:u:{user}", *(f"{version}:i:{item}" for item in body["i"])]


def _section(times: dict[str, list[float]], shape: Shape, rounds: int) -> Section:
    def ratio(over: str, under: str) -> list[float]:
        return [one / other for one, other in zip(times[over], times[under], strict=True)]

    where = f"B = {ROWS}, D = {shape.dim}"
    bounds: dict[str, Any] = {"target": 0.6, "stretch": 0.45, "at_most": True}
    to_mget = ratio("ours", "MGET")
    figures = [
        Figure(f"p50 over HTTP to p50 of redis-py's MGET, {where}", to_mget, **bounds),
        Figure(f"the same to redis-py's asyncio MGET, {where}", ratio("ours", "asyncio MGET")),
        Figure(
            f"p50 of the teacher in onnxruntime to p50 over HTTP, {where}",
            ratio("teacher", "ours"),
            target=20,
            stretch=50,
            digits=1,
        ),
    ]
    told = "; ".join(f"{name} {spread(values, 3)} ms" for name, values in times.items())
    return Section(
        module="bench.latency",
        title="One request alone",
        method=(
            f"1 user by {ROWS} candidates, drawn evenly, safetensors rows in f16, one request "
            f"under way. The references run on the core of the service, without HTTP: `MGET` of "
            f"the user's key and the {ROWS} items' keys ({2 * shape.dim} bytes each) by redis-py "
            f"with hiredis, without decoding the values, pairs or arithmetic; and the teacher of "
            f"the default widths (three tasks, 192 numbers a row) in onnxruntime, on one thread, "
            f"its inputs at hand. {rounds} rounds; a reference's time in a round is the median of "
            f"{CALLS} calls, {TEACHER_CALLS} of the teacher."
        ),
        figures=figures,
        notes=[f"p50: {told}."],
        packages=("hiredis",),
    )


if __name__ == "__main__":
    typer.run(main)
