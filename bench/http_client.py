"""The client over HTTP beside the bare exchange of the same bytes, and how late its deadline is.

1 user by 500 candidates in f16, in turns: `gkc.Client` beside kept-alive `http.client`, and
`gkc.AsyncClient` beside asyncio's streams, one and 16 at a time. The bare exchanges encode nothing,
check nothing and hold no deadline. Then both clients ask a server that never answers.

    python -m bench.http_client [--save]
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from typing import Annotated, Any, Final

import numpy as np
import typer

from bench.results import Figure, Section, tell
from bench.stage import Stage, ratios
from bench.world import VERSION, Shape, export, questions
from gkc import AsyncClient, Client
from gkc.errors import DeadlineExceededError
from gkc.knowledge import SAFETENSORS
from gkc.safetensors import dump

ROWS: Final = 500
CALLS: Final = 300
"""Of each in a round."""
AT_A_TIME: Final = 16
TIMEOUT_SECONDS: Final = 30.0
SHORT_SECONDS: Final = 0.02
DEADLINES: Final = 50
"""How often a deadline is waited for in a round."""
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
        store = f"file:{stage.folder / 'store'}"
        export(stage.folder / "bundle", shape, store)
        service = stage.serve(store)
        os.sched_setaffinity(0, stage.other_cores)
        asked = [
            {**body, "i": np.array(body["i"]), "dtype": "f16"}
            for body in questions(shape, ROWS, CALLS, seed=1)
        ]
        bodies = [_encoded(question) for question in asked]
        times: dict[str, list[float]] = {}
        with socket.create_server(("127.0.0.1", 0), backlog=10_000) as silent:
            for _ in range(rounds):
                found = blocking_seconds(service.port, asked, bodies)
                found |= asyncio.run(loop_seconds(service.port, asked, bodies))
                found |= overrun_seconds(silent.getsockname()[1])
                for name, seconds in found.items():
                    times.setdefault(name, []).append(1e6 * seconds)
    tell(section(times, shape, rounds), save=save)


def blocking_seconds(
    port: int, asked: Sequence[Question], bodies: Sequence[bytes]
) -> dict[str, float]:
    """Return the time of a question, asked by a client and bare, one and many at a time."""
    connections = [HTTPConnection("127.0.0.1", port) for _ in range(AT_A_TIME)]

    def bare(lane: int, place: int) -> None:
        connections[lane].request("POST", "/knowledge", bodies[place], _HEADERS)
        response = connections[lane].getresponse()
        response.read()
        if response.status != 200:
            raise SystemExit(f"answered {response.status}")

    with Client(_url(port), timeout=TIMEOUT_SECONDS) as client:
        client.versions()

        def ours(_: int, place: int) -> None:
            client.knowledge(**asked[place])

        found = {}
        for name, ask in (("http.client", bare), ("Client", ours)):
            found[name] = _median(ask)
            found[f"{name}, {AT_A_TIME}"] = _at_once(ask)
    for connection in connections:
        connection.close()
    return found


async def loop_seconds(
    port: int, asked: Sequence[Question], bodies: Sequence[bytes]
) -> dict[str, float]:
    """Return the same on an event loop."""
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(AT_A_TIME)]
    requests = [_request(port, body) for body in bodies]

    async def bare(lane: int, place: int) -> None:
        reader, writer = streams[lane]
        writer.write(requests[place])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))

    async with AsyncClient(_url(port), timeout=TIMEOUT_SECONDS) as client:
        await client.versions()

        async def ours(_: int, place: int) -> None:
            await client.knowledge(**asked[place])

        found = {}
        for name, ask in (("streams", bare), ("AsyncClient", ours)):
            found[name] = await _loop_median(ask)
            began = time.perf_counter()
            await asyncio.gather(*(_lane(ask, lane) for lane in range(AT_A_TIME)))
            found[f"{name}, {AT_A_TIME}"] = (time.perf_counter() - began) / CALLS
    for _, writer in streams:
        writer.close()
    return found


def overrun_seconds(port: int) -> dict[str, float]:
    """Return how late a deadline is told of, the latest but one of a hundred."""
    late = []
    with Client(_url(port), timeout=SHORT_SECONDS) as client:
        for _ in range(DEADLINES):
            began = time.perf_counter()
            with suppress(DeadlineExceededError):
                client.knowledge(u=1, i=1, v=VERSION)
            late.append(time.perf_counter() - began - SHORT_SECONDS)
    return {"late": float(np.quantile(late, 0.99))}


async def _lane(ask: Callable[[int, int], Awaitable[None]], lane: int) -> None:
    for place in range(lane, CALLS, AT_A_TIME):
        await ask(lane, place)


def _at_once(ask: Callable[[int, int], None]) -> float:
    """Return the time of all questions, asked by as many threads, by their number."""

    def lane(number: int) -> None:
        for place in range(number, CALLS, AT_A_TIME):
            ask(number, place)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        began = time.perf_counter()
        list(pool.map(lane, range(AT_A_TIME)))
        return (time.perf_counter() - began) / CALLS


def _median(ask: Callable[[int, int], None]) -> float:
    times = []
    for place in range(CALLS):
        began = time.perf_counter()
        ask(0, place)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def _loop_median(ask: Callable[[int, int], Awaitable[None]]) -> float:
    times = []
    for place in range(CALLS):
        began = time.perf_counter()
        await ask(0, place)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _encoded(question: Question) -> bytes:
    tensors = {"u": np.array([question["u"]]), "i": question["i"]}
    return b"".join(dump(tensors, {"v": VERSION, "dtype": "f16"}))


def _request(port: int, body: bytes) -> bytes:
    headers = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)), **_HEADERS}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["POST /knowledge HTTP/1.1", *lines, "", ""]).encode() + body


def section(times: Mapping[str, Sequence[float]], shape: Shape, rounds: int) -> Section:
    """Put the microseconds of each round in the form that is told."""
    pairs = (("`Client`", "Client", "http.client"), ("`AsyncClient`", "AsyncClient", "streams"))
    figures = [
        Figure(
            f"{shown}, {count} at a time, to the bare exchange by {bare}",
            ratios(times[client + suffix], times[bare + suffix]),
            target=1.15,
            stretch=1.05,
            at_most=True,
        )
        for shown, client, bare in pairs
        for count, suffix in (("one", ""), (str(AT_A_TIME), f", {AT_A_TIME}"))
    ]
    figures += [
        Figure("`Client`, one at a time: p50", times["Client"], "us"),
        Figure("`AsyncClient`, one at a time: p50", times["AsyncClient"], "us"),
        Figure("told too late of a deadline: p99", times["late"], "us"),
    ]
    return Section(
        module="bench.http_client",
        title="The client over HTTP",
        method=(
            f"1 user by {ROWS} candidates, drawn evenly, ids as arrays, answers in f16, in turns; "
            f"a version of {shape.users:,} users and {shape.items:,} items in `file:`, the service "
            "on a core of its own. The bare exchanges send questions encoded before, on kept-alive "
            f"connections, and only read the answers. {rounds} rounds; one at a time, a time is "
            f"the median of {CALLS} calls, else that of all by their number. Deadlines: "
            f"{DEADLINES} of {1000 * SHORT_SECONDS:.0f} ms a round, of a server that takes "
            "connections and never answers."
        ),
        figures=figures,
    )


if __name__ == "__main__":
    typer.run(main)
