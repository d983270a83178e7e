"""The client in this process beside HTTP on the same store, and beside fetching the same keys.

1 user by 500 candidates in f16, one call at a time, in turns: `gkc.Client` of a `file:` and of a
`redis:` store, a kept-alive exchange of the same questions by `http.client`, copies of the answers,
and redis-py's ``MGET`` of the 501 keys.

    python -m bench.client [--save]
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from typing import Annotated, Any, Final

import numpy as np
import redis
import typer

from bench.latency import keys_of, mget_seconds
from bench.results import Figure, Section, tell
from bench.stage import Stage, ratios
from bench.vectors import load_plain_keys
from bench.world import VERSION, Shape, export
from gkc import AsyncClient, Client
from gkc.client import Knowledge
from gkc.knowledge import SAFETENSORS
from gkc.safetensors import dump

ROWS: Final = 500
CALLS: Final = 300
"""Of each in a round; a round's time is their median."""
TIMEOUT_SECONDS: Final = 60.0
"""Long enough for the first question, which waits until the version is loaded."""
_HEADERS: Final = {"content-type": SAFETENSORS, "accept": SAFETENSORS}

Question = Mapping[str, Any]


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Repeats of everything.")] = 15,
    users: Annotated[int, typer.Option(help="Users of the version.")] = 2_000,
    items: Annotated[int, typer.Option(help="Items of the version.")] = 200_000,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Measure in turns, and tell."""
    shape = Shape(users=users, items=items)
    with Stage() as stage:
        knowledge = stage.world(shape)
        store = f"file:{stage.folder / 'store'}"
        export(stage.folder / "bundle", shape, store)
        load_plain_keys(knowledge, stage.serve(knowledge.url))
        service = stage.serve(store)
        bodies = knowledge.questions(ROWS, CALLS, seed=1)
        questions = [{**body, "i": np.array(body["i"]), "dtype": "f16"} for body in bodies]
        keys = [keys_of(body) for body in bodies]
        mirrors = stage.folder / "mirrors"
        with (
            closing(HTTPConnection("127.0.0.1", service.port)) as connection,
            redis.Redis.from_url(knowledge.url) as server,
            Client(store, timeout=TIMEOUT_SECONDS) as of_file,
            Client(knowledge.url, timeout=TIMEOUT_SECONDS, mirror_dir=mirrors) as of_redis,
        ):
            os.sched_setaffinity(0, stage.service_cores)  # and with it the thread that reads Redis
            answers = [of_redis.knowledge(**question) for question in questions]
            measures: dict[str, tuple[frozenset[int], Callable[[], float]]] = {
                "file": (stage.other_cores, lambda: client_seconds(of_file, questions)),
                "async": (stage.other_cores, lambda: asyncio.run(loop_seconds(store, questions))),
                "HTTP": (stage.other_cores, lambda: http_seconds(connection, questions)),
                "copy": (stage.other_cores, lambda: copy_seconds(answers)),
                "redis": (stage.service_cores, lambda: client_seconds(of_redis, questions)),
                "MGET": (stage.service_cores, lambda: mget_seconds(server, keys)),
            }
            times: dict[str, list[float]] = {name: [] for name in measures}
            for _ in range(rounds):
                for name, (cores, measure) in measures.items():
                    os.sched_setaffinity(0, cores)  # whoever serves has another one
                    times[name].append(1e6 * measure())
    tell(section(times, shape, rounds), save=save)


def client_seconds(client: Client, questions: Sequence[Question]) -> float:
    """Return the median time of questions asked of a client."""
    times = []
    for question in questions:
        began = time.perf_counter()
        client.knowledge(**question)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def loop_seconds(store: str, questions: Sequence[Question]) -> float:
    """Return the median time of questions asked of a client on an event loop."""
    times = []
    async with AsyncClient(store, timeout=TIMEOUT_SECONDS) as client:
        await client.knowledge(**questions[0])
        for question in questions:
            began = time.perf_counter()
            await client.knowledge(**question)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def http_seconds(connection: HTTPConnection, questions: Sequence[Question]) -> float:
    """Return the median time until the bytes of an answer are there, question encoded before.

    Raises
    ------
    SystemExit
        If one is not answered.
    """
    times = []
    for body in map(_encoded, questions):
        began = time.perf_counter()
        connection.request("POST", "/knowledge", body, _HEADERS)
        response = connection.getresponse()
        response.read()
        times.append(time.perf_counter() - began)
        if response.status != 200:
            raise SystemExit(f"answered {response.status}")
    return statistics.median(times)


def copy_seconds(answers: Sequence[Knowledge]) -> float:
    """Return the median time of copying an answer, each in turn, from memory and not from cache."""
    times = []
    for answer in answers:
        began = time.perf_counter()
        answer.rows.copy()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _encoded(question: Question) -> bytes:
    tensors = {"u": np.array([question["u"]]), "i": question["i"]}
    return b"".join(dump(tensors, {"v": VERSION, "dtype": "f16"}))


def section(times: Mapping[str, Sequence[float]], shape: Shape, rounds: int) -> Section:
    """Put the microseconds of each round in the form that is told."""
    figures = [
        Figure(
            "in process, `file:`: p50 to a kept-alive exchange over HTTP",
            ratios(times["file"], times["HTTP"]),
            target=0.35,
            stretch=0.25,
            at_most=True,
        ),
        Figure(
            "in process, `file:`: p50 in copies of the answer",
            ratios(times["file"], times["copy"]),
            target=15,
            stretch=12,
            at_most=True,
            digits=1,
        ),
        Figure(
            "in process, `redis:`: p50 to redis-py's MGET of the 501 keys",
            ratios(times["redis"], times["MGET"]),
            target=0.4,
            stretch=0.3,
            at_most=True,
        ),
        Figure(
            "in process, `file:`, on an event loop: p50 to the exchange over HTTP",
            ratios(times["async"], times["HTTP"]),
        ),
        Figure("in process, `file:`: p50", times["file"], "us"),
        Figure("in process, `redis:`: p50", times["redis"], "us"),
    ]
    return Section(
        module="bench.client",
        title="The client in the caller's process",
        method=(
            f"1 user by {ROWS} candidates, drawn evenly, ids as arrays, answers in f16, one call "
            f"at a time, in turns; a version of {shape.users:,} users and {shape.items:,} items. "
            f"Over HTTP: `http.client` on one connection to a service on a core of its own, "
            f"safetensors both ways, encoded before and not decoded after. A copy is that of an "
            f"answer of as many bytes which is no longer in the processor's caches, as what an "
            f"answer is made of is not. Redis: the client and redis-py on one core, the server on "
            f"another. {rounds} rounds; a time is the median of {CALLS} calls."
        ),
        figures=figures,
        packages=("hiredis",),
    )


if __name__ == "__main__":
    typer.run(main)
