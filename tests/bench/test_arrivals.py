"""The load generator: its schedule, its reading of answers, and what it charges to whom."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice, repeat
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from bench.arrivals import (
    ANSWER,
    LOST,
    Answers,
    Sender,
    offer,
    perfect_latencies,
    poisson_gaps,
    read_head,
    request_of,
)
from bench.load import Ask
from bench.processes import Server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


def test_gaps_are_those_of_the_seed_and_of_the_rate() -> None:
    gaps = list(islice(poisson_gaps(50.0, seed=3), 20_000))
    assert gaps[:5000] == list(islice(poisson_gaps(50.0, seed=3), 5000))
    assert gaps[:5] != list(islice(poisson_gaps(50.0, seed=4), 5))
    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert np.std(gaps) == pytest.approx(1 / 50, rel=0.05)  # as the mean: it is exponential


def test_a_perfect_server_does_one_thing_after_the_other() -> None:
    due = np.cumsum(list(islice(poisson_gaps(0.7, seed=1), 5000)))
    free, expected = 0.0, []
    for at in due.tolist():
        free = max(at, free) + 1.0
        expected.append(free - at)
    assert perfect_latencies(due, 1.0) == pytest.approx(np.array(expected))


def test_at_seven_tenths_of_its_capacity_a_perfect_server_has_4_3() -> None:
    due = np.cumsum(list(islice(poisson_gaps(0.7, seed=1), 500_000)))
    p50, p99 = np.percentile(perfect_latencies(due, 1.0), (50, 99))
    assert p99 / p50 == pytest.approx(4.3, abs=0.15)


def test_a_head_is_read_once_it_is_complete() -> None:
    head = b"HTTP/1.1 503 Busy\r\nserver: x\r\ncontent-length: 12\r\nx: y\r\n\r\n"
    for end in range(len(head)):
        assert read_head(head[:end]) is None
    assert read_head(head) == (503, len(head) + 12)
    assert read_head(head + b"begins") == (503, len(head) + 12)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ncontent-length: 3\r\n",
        b"SSH-2.0\r\ncontent-length: 3\r\n\r\n",
        b"x" * 5000,
    ],
)
def test_what_has_no_length_is_no_answer(head: bytes) -> None:
    with pytest.raises(ValueError, match="without a length"):
        read_head(head)


def test_a_request_says_how_long_it_is() -> None:
    request = request_of(b'{"u": 1}', "application/json")
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b'{"u": 1}'
    assert head.startswith(b"POST /knowledge HTTP/1.1\r\n")
    assert b"Content-Length: 8" in head.split(b"\r\n")
    assert b"X-Request-Timeout-Ms: 20\r\n" in request_of(b"{}", "*/*", deadline_ms=20)


def test_answers_are_chosen_by_when_they_were_due() -> None:
    records = np.array(
        [
            (1.0, 0.0, 0.5, 200, 0, 0),
            (2.0, 0.001, 0.25, 503, 1, 0),
            (3.0, 0.0, 1.0, 200, 0, 0),
        ],
        dtype=ANSWER,
    )
    answers = Answers(records)
    assert answers.failed == 1
    assert answers.latency_ms(100) == 1000
    assert answers.late_ms(100) == pytest.approx(1)
    assert answers.due_within(2.0, 3.0).latency_ms(50) == 250
    with pytest.raises(ValueError, match="no request was due"):
        answers.due_within(4.0, 5.0)


class _Server(asyncio.Protocol):
    """Answers whatever comes in two pieces, once it may."""

    def __init__(self, may_answer: asyncio.Event, came: asyncio.Queue[bytes]) -> None:
        self._may_answer = may_answer
        self._came = came
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._data.endswith(b"\r\n\r\n{}"):
            self._came.put_nowait(self._data)
            self._data = b""
            self._task = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        await self._may_answer.wait()
        self._transport.write(OK[:20])
        await asyncio.sleep(0)
        self._transport.write(OK[20:])


@asynccontextmanager
async def _serving(may_answer: asyncio.Event, came: asyncio.Queue[bytes]) -> AsyncIterator[int]:
    """Run the server and give its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Server(may_answer, came), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_requests_are_due_when_the_schedule_says_however_late_answers_are() -> None:
    may_answer, came = asyncio.Event(), asyncio.Queue[bytes]()
    loop, gaps = asyncio.get_running_loop(), [0.01] * 20

    def schedule() -> Iterator[float]:
        yield from gaps
        loop.call_soon_threadsafe(may_answer.set)  # not before the last request is due
        sender.stop()
        yield from repeat(1e6)

    sender = Sender([request_of(b"{}", "*/*")], schedule())
    async with _serving(may_answer, came) as port:
        records = await asyncio.to_thread(sender.run, port, 1, seconds=60)
    assert came.qsize() == len(records) == len(gaps)
    assert (records["status"] == 200).all()
    assert np.diff(np.sort(records["due_s"])) == pytest.approx(np.array(gaps[1:]))
    answered = records["due_s"] + records["latency_s"]
    assert answered.min() > records["due_s"].max()
    assert (records["latency_s"] > records["late_s"]).all()


async def test_what_a_closed_connection_was_asked_is_lost_and_the_next_is_asked_anew() -> None:
    class Closes(_Server):
        async def _answer(self) -> None:
            if came.qsize() % 2:
                self._transport.close()
            else:
                await super()._answer()

    may_answer, came = asyncio.Event(), asyncio.Queue[bytes]()
    may_answer.set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Closes(may_answer, came), "127.0.0.1", 0)
    sender = Sender([request_of(b"{}", "*/*")], iter([0.01] * 4 + [1e6]), tail_bytes=2)
    async with server:
        port = server.sockets[0].getsockname()[1]
        records = await asyncio.to_thread(sender.run, port, 1, seconds=0.1)
    assert records["status"].tolist() == [LOST, 200, LOST, 200]
    assert records["crc32"][1::2].tolist() == [crc32(b"bc")] * 2


async def test_a_load_in_a_process_of_its_own(tmp_path: Path) -> None:
    may_answer, came = asyncio.Event(), asyncio.Queue[bytes]()
    may_answer.set()
    bodies, cores = tmp_path / "bodies", os.sched_getaffinity(0)
    bodies.write_text("{}\n{}\n")
    async with _serving(may_answer, came) as port:
        asked = Ask(Server("ours", os.getpid(), port), bodies, "*/*")
        answers = await asyncio.to_thread(
            lambda: offer(asked, cores, seconds=0.5, rate=200.0, seed=5)
        )
    due = np.sort(answers.records["due_s"])
    expected = list(islice(poisson_gaps(200.0, seed=5), len(due)))
    assert answers.failed == 0
    assert len(due) == came.qsize() > 1
    assert np.diff(due) == pytest.approx(expected[1:], abs=1e-6)
