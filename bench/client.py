"""The client in this process and over HTTP, beside the bare exchange and fetching the same keys.

1 user by 500 candidates in f16, in turns: `gkc.Client` of a `file:` and of a `redis:` store, both
clients over HTTP beside bare kept-alive exchanges of the same bytes (`bench.http_client`), copies
of the answers, and redis-py's ``MGET`` of the 501 keys. And what importing the client takes.

    python -m bench.client [--save]
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final

import redis
import typer

from bench.checkouts import HERE
from bench.exchange import CALLS, ROWS, Question, client_questions, encoded
from bench.http_client import (
    DEADLINES,
    SHORT_SECONDS,
    TIMEOUT_SECONDS,
    bare_seconds,
    client_seconds,
    loop_client_seconds,
    overrun_seconds,
    streams_seconds,
)
from bench.latency import keys_of, mget_seconds
from bench.options import Rounds, Save
from bench.processes import Server
from bench.results import Figure, Section, tell
from bench.stage import Stage, in_turns, ratios
from bench.timing import median_seconds
from bench.vectors import load_plain_keys
from bench.world import Shape, export
from gkc import Client

SHAPE: Final = Shape(users=2_000, items=200_000)
AT_A_TIME: Final = 16
METHOD: Final = f"""\
1 user by {ROWS} candidates, drawn evenly, ids as arrays, answers in f16, in turns; a version of \
{SHAPE.users:,} users and {SHAPE.items:,} items. The bare exchanges send questions encoded before, \
safetensors both ways, on kept-alive connections to a service on a core of its own, and only read \
the answers. A copy is that of an answer of as many bytes which is no longer in the processor's \
caches, as what an answer is made of is not. Redis: the client and redis-py on one core, the \
server on another. One at a time, a round's time is the median of {CALLS} calls; else it is that \
of all by their number. Deadlines: {DEADLINES} of {1000 * SHORT_SECONDS:.0f} ms a round, of a \
server that takes connections and never answers."""
IMPORT: Final = """\
import time, numpy
began = time.perf_counter()
from gkc import Client
print(time.perf_counter() - began)"""


def main(*, rounds: Rounds = 15, save: Save = False) -> None:
    """Measure in turns, and tell."""
    with Stage() as stage:
        knowledge = stage.world(SHAPE)
        store = f"file:{stage.folder / 'store'}"
        export(stage.folder / "bundle", SHAPE, store)
        load_plain_keys(knowledge)
        service = stage.serve(store)
        questions, mirrors = client_questions(SHAPE), stage.folder / "mirrors"
        bodies, keys = [*map(encoded, questions)], [*map(keys_of, questions)]
        server = stage.enter_context(redis.Redis.from_url(knowledge.url))
        silent = stage.enter_context(socket.create_server(("127.0.0.1", 0), backlog=10_000))
        never = f"http://127.0.0.1:{silent.getsockname()[1]}"
        opened = partial(Client, timeout=TIMEOUT_SECONDS)
        of_file, over_http = (stage.enter_context(opened(url)) for url in (store, service.url))
        of_redis = stage.enter_context(opened(knowledge.url, mirror_dir=mirrors))
        os.sched_setaffinity(0, stage.service_cores)  # and with it the thread that reads Redis
        answers = [of_redis.knowledge(**question) for question in questions]
        measures: dict[str, Callable[[], float]] = {
            "file": lambda: client_seconds(of_file, questions),
            "async": lambda: asyncio.run(loop_client_seconds(store, questions)),
            "copy": lambda: median_seconds(lambda answer: answer.rows.copy(), answers),
            "late": lambda: overrun_seconds(never),
            "import": import_seconds,
        }
        for n in (1, AT_A_TIME):
            measures |= exchanges(over_http, service, questions, bodies, n)
        beside_redis: dict[str, Callable[[], float]] = {
            "redis": lambda: client_seconds(of_redis, questions),
            "MGET": lambda: mget_seconds(server, keys),
        }
        times = in_turns(
            {
                name: partial(_microseconds_on, cores, measure)
                for cores, some in (
                    (stage.other_cores, measures),  # whoever serves has another one
                    (stage.service_cores, beside_redis),
                )
                for name, measure in some.items()
            },
            rounds,
        )
    tell(section(times), save=save)


def exchanges(
    client: Client,
    service: Server,
    questions: Sequence[Question],
    bodies: Sequence[bytes],
    at_a_time: int,
) -> dict[str, Callable[[], float]]:
    """Return what measures both clients over HTTP, and bare exchanges, so many at a time."""
    port, url = service.port, service.url
    measures: dict[str, Callable[[], float]] = {
        "http.client": lambda: bare_seconds(port, bodies, at_a_time),
        "Client": lambda: client_seconds(client, questions, at_a_time),
        "streams": lambda: asyncio.run(streams_seconds(port, bodies, at_a_time)),
        "AsyncClient": lambda: asyncio.run(loop_client_seconds(url, questions, at_a_time)),
    }
    return {f"{name}, {at_a_time}": measure for name, measure in measures.items()}


def import_seconds() -> float:
    """Return what importing the client takes in a new process that has NumPy."""
    return float(HERE.run(HERE.python("-c", IMPORT)).stdout)


def _microseconds_on(cores: Collection[int], measure: Callable[[], float]) -> float:
    os.sched_setaffinity(0, cores)
    return 1e6 * measure()


def section(times: Mapping[str, Sequence[float]]) -> Section:
    """Put the microseconds of each round in the form that is told."""
    at_most = partial(Figure, at_most=True)
    over_http = [
        at_most(
            f"`{client}` over HTTP, {n} at a time, to the bare exchange by {bare}",
            ratios(times[f"{client}, {n}"], times[f"{bare}, {n}"]),
            target=1.15,
            stretch=1.05,
        )
        for client, bare in (("Client", "http.client"), ("AsyncClient", "streams"))
        for n in (1, AT_A_TIME)
    ]
    return Section(
        module="bench.client",
        title="The client",
        method=METHOD,
        figures=[
            at_most(
                "client in process, `file:`: p50 to a kept-alive exchange over HTTP",
                ratios(times["file"], times["http.client, 1"]),
                target=0.35,
                stretch=0.25,
            ),
            at_most(
                "client in process, `file:`: p50 in copies of the answer",
                ratios(times["file"], times["copy"]),
                target=15,
                stretch=12,
                digits=1,
            ),
            at_most(
                "client in process, `redis:`: p50 to redis-py's MGET of the 501 keys",
                ratios(times["redis"], times["MGET"]),
                target=0.4,
                stretch=0.3,
            ),
            *over_http,
            at_most(
                "`from gkc import Client`, over NumPy",
                [us / 1e6 for us in times["import"]],
                "s",
                target=0.15,
                digits=3,
            ),
            Figure(
                "client in process, `file:`, on an event loop: p50 to the exchange over HTTP",
                ratios(times["async"], times["http.client, 1"]),
            ),
            Figure("client in process, `file:`: p50", times["file"], "us"),
            Figure("client in process, `redis:`: p50", times["redis"], "us"),
            Figure("`Client` over HTTP: p50", times["Client, 1"], "us"),
            Figure("`AsyncClient` over HTTP: p50", times["AsyncClient, 1"], "us"),
            Figure("told too late of a deadline: p99", times["late"], "us"),
        ],
        packages=("hiredis",),
    )


if __name__ == "__main__":
    typer.run(main)
