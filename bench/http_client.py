"""The client over HTTP, the bare exchange of the same bytes, and how late a deadline is told of.

The bare exchanges, by kept-alive `http.client` and by asyncio's streams, encode nothing, check
nothing and hold no deadline. `bench.client` asks them in turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from http.client import HTTPConnection
from typing import Final

import numpy as np

from bench.exchange import Question, exchange, headers_of
from bench.timing import loop_mean_seconds, loop_median_seconds, mean_seconds, median_seconds
from bench.world import VERSION
from gkc import AsyncClient, Client
from gkc.errors import DeadlineExceededError
from gkc.knowledge import SAFETENSORS

TIMEOUT_SECONDS: Final = 60.0
"""Long enough for the first question, which waits until the version is loaded."""
SHORT_SECONDS: Final = 0.02
DEADLINES: Final = 50
"""How often a deadline is waited for in a round."""


def client_seconds(client: Client, questions: Sequence[Question], at_a_time: int = 1) -> float:
    """Return the time of a question asked of a client, one or several at a time."""

    def ask(question: Question) -> None:
        client.knowledge(**question)

    return (
        median_seconds(ask, questions)
        if at_a_time == 1
        else mean_seconds([ask] * at_a_time, questions)
    )


def bare_seconds(port: int, bodies: Sequence[bytes], at_a_time: int = 1) -> float:
    """Return the time of an exchange by `http.client`, one or several at a time."""
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(HTTPConnection("127.0.0.1", port)))
            for _ in range(at_a_time)
        ]
        if at_a_time == 1:
            return median_seconds(partial(exchange, connections[0]), bodies)
        return mean_seconds([partial(exchange, each) for each in connections], bodies)


async def loop_client_seconds(url: str, questions: Sequence[Question], at_a_time: int = 1) -> float:
    """Return the time of a question asked of a client on an event loop."""
    async with AsyncClient(url, timeout=TIMEOUT_SECONDS) as client:

        async def ask(question: Question) -> None:
            await client.knowledge(**question)

        await ask(questions[0])
        if at_a_time == 1:
            return await loop_median_seconds(ask, questions)
        return await loop_mean_seconds([ask] * at_a_time, questions)


async def streams_seconds(port: int, bodies: Sequence[bytes], at_a_time: int = 1) -> float:
    """Return the time of an exchange by asyncio's streams."""
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(at_a_time)]
    requests = [_request(body) for body in bodies]

    async def ask(lane: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> None:
        reader, writer = lane
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))

    if at_a_time == 1:
        found = await loop_median_seconds(partial(ask, streams[0]), requests)
    else:
        found = await loop_mean_seconds([partial(ask, lane) for lane in streams], requests)
    for _, writer in streams:
        writer.close()
    return found


def overrun_seconds(url: str) -> float:
    """Return how late a deadline is told of by a client of a server that never answers, p99."""
    late = []
    with Client(url, timeout=SHORT_SECONDS) as client:
        for _ in range(DEADLINES):
            began = time.perf_counter()
            with suppress(DeadlineExceededError):
                client.knowledge(u=1, i=1, v=VERSION)
            late.append(time.perf_counter() - began - SHORT_SECONDS)
    return float(np.quantile(late, 0.99))


def _request(body: bytes) -> bytes:
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers_of(SAFETENSORS)}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["POST /knowledge HTTP/1.1", *lines, "", ""]).encode() + body
