"""Load over HTTP from callers who do not wait for each other: Poisson arrivals at a given rate.

The generator is a process of its own, pinned to its cores. A request is due when the schedule says,
however late the answers before it are, and its latency counts from then: a server that hangs is
charged for everyone who came meanwhile. A request that finds no idle connection waits for one.
Load from callers who wait for each answer is wrk's (`bench.load`).
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import uvloop

from bench.processes import Server

CONNECTIONS = 64
ANSWER = np.dtype([("due_s", "<f8"), ("late_s", "<f8"), ("latency_s", "<f8"), ("status", "<i4")])
"""One request: when it was due (CLOCK_MONOTONIC), how much later the generator came to it, when it
was answered counted from when it was due, and how."""

_BEGUN = b"begun\n"
_GAPS_AT_ONCE = 4096
_BUFFER_BYTES = 1 << 20
_HEAD_BYTES = 4096
_PATIENCE_SECONDS = 60.0
_TIMER_ABSOLUTE = 1
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Answers:
    """What became of the requests."""

    records: npt.NDArray[np.void]
    """Shape (n,), of type ``ANSWER``, in the order of the answers."""

    @property
    def failed(self) -> int:
        """Answers other than 200."""
        return int(np.count_nonzero(self.records["status"] != 200))

    @property
    def rate(self) -> float:
        """Answers per second, from the first arrival to the last answer."""
        due = self.records["due_s"]
        return len(due) / float((due + self.records["latency_s"]).max() - due.min())

    def latency_ms(self, percent: float) -> float:
        """Return a percentile of the latencies, in milliseconds."""
        return 1000 * float(np.percentile(self.records["latency_s"], percent))

    def late_ms(self, percent: float) -> float:
        """Return a percentile of how late the generator itself was, in milliseconds."""
        return 1000 * float(np.percentile(self.records["late_s"], percent))

    def due_within(self, start: float, end: float) -> Answers:
        """Return the answers to what was due in a span of CLOCK_MONOTONIC, in seconds.

        Raises
        ------
        ValueError
            If nothing was.
        """
        due = self.records["due_s"]
        found = self.records[(due >= start) & (due < end)]
        if not len(found):
            raise ValueError(f"no request was due in the {end - start:.3f} s from {start:.3f} on")
        return Answers(found)


class Offer:
    """Load that is under way."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def stop(self) -> Answers:
        """End it now, and return what became of the requests so far."""
        self._process.send_signal(signal.SIGTERM)
        return self.finish()

    def finish(self) -> Answers:
        """Wait for its end, and return what became of the requests.

        Raises
        ------
        SystemExit
            If the server closed a connection or left a request without an answer.
        """
        assert self._process.stdout is not None
        found = self._process.stdout.read()
        if self._process.wait():
            raise SystemExit("the load generator failed, see above")
        return Answers(np.load(io.BytesIO(found)))


@contextmanager
def offering(
    server: Server,
    bodies: Path,
    accept: str,
    cores: Collection[int],
    *,
    seconds: float,
    rate: float,
    connections: int = CONNECTIONS,
    seed: int = 0,
    path: str = "/knowledge",
) -> Iterator[Offer]:
    """Send requests until they are stopped or the time is over.

    Parameters
    ----------
    server : Server
        Who is asked.
    bodies : Path
        What ``bench.load.write_bodies`` wrote; sent in turn.
    accept : str
        Media type of the answers.
    cores : collection of int
        Cores of the load generator.
    seconds : float
        How long at most.
    rate : float
        Arrivals per second.
    connections : int
        All of them are kept open; so many requests can be under way.
    seed : int
        Of the schedule.
    path : str
        What is asked.

    Yields
    ------
    Offer
        Begun; it is ended with the block if it has not ended by itself.
    """
    command = [sys.executable, "-m", "bench.arrivals", "--port", str(server.port)]
    command += ["--path", path, "--bodies", str(bodies), "--accept", accept]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    command += ["--seed", str(seed), "--rate", str(rate)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != _BEGUN:
            raise SystemExit("the load generator did not start, see above")
        yield Offer(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def offer(
    server: Server,
    bodies: Path,
    accept: str,
    cores: Collection[int],
    *,
    seconds: float,
    rate: float,
    connections: int = CONNECTIONS,
    seed: int = 0,
) -> Answers:
    """Send requests for a while, as ``offering`` does, and return what became of them."""
    with offering(
        server,
        bodies,
        accept,
        cores,
        seconds=seconds,
        rate=rate,
        connections=connections,
        seed=seed,
    ) as load:
        return load.finish()


def poisson_gaps(rate: float, seed: int) -> Iterator[float]:
    """Yield the seconds between arrivals that know nothing of each other, without end.

    Parameters
    ----------
    rate : float
        Arrivals per second, on average.
    seed : int
        The same one gives the same gaps.

    Yields
    ------
    float
        Seconds.
    """
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.exponential(1 / rate, _GAPS_AT_ONCE).tolist()


def perfect_latencies(due: npt.NDArray[np.float64], service: float) -> npt.NDArray[np.float64]:
    """Return the latencies of a single server that takes the same time for every request.

    Parameters
    ----------
    due : ndarray, shape (n,), float64
        Arrivals in ascending order, seconds.
    service : float
        Seconds that it takes for one.

    Returns
    -------
    ndarray, shape (n,), float64
        Seconds from each arrival to its answer, waiting included.
    """
    # It begins with request k at the latest of k's arrival and the end of k - 1, so k ends
    # (k - j + 1) services after the arrival of the j that last found it idle: the largest such end.
    before = service * np.arange(len(due), dtype=np.float64)
    ends: npt.NDArray[np.float64] = np.maximum.accumulate(due - before) + before + service
    return ends - due


def read_head(head: bytes) -> tuple[int, int] | None:
    """Read the head of an answer.

    Parameters
    ----------
    head : bytes
        What has come of the answer so far, body included.

    Returns
    -------
    status, size : int
        Size of head and body together, bytes; None if the head is not complete yet.

    Raises
    ------
    ValueError
        If it is no answer whose size is known.
    """
    end = head.find(b"\r\n\r\n")
    if end < 0 and len(head) < _HEAD_BYTES:
        return None
    length = _LENGTH.search(head, 0, end + 2) if end >= 0 else None
    if length is None or not head.startswith(b"HTTP/1.1 "):
        raise ValueError(f"an answer without a length: {head[:200]!r}")
    return int(head[9:12]), end + 4 + int(length[1])


def request_of(body: bytes, path: str, accept: str) -> bytes:
    """Return a whole request: head and body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class _Alarm:
    """A timer of the kernel's: to the microsecond, where an event loop rounds to milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._when = (ctypes.c_long * 4)()  # interval and time, each in seconds and nanoseconds

    def set(self, at: float) -> None:
        """Make ``fd`` readable at a time of CLOCK_MONOTONIC, now if that has passed."""
        self._when[2], self._when[3] = int(at), int(at % 1 * 1e9)
        if self._libc.timerfd_settime(self.fd, _TIMER_ABSOLUTE, self._when, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        """Make ``fd`` unreadable again."""
        os.read(self.fd, 8)


class Sender:
    """Sends requests when they are due, and notes when they are answered.

    Parameters
    ----------
    requests : sequence of bytes
        Whole requests, sent in turn.
    gaps : iterator of float
        Seconds between arrivals.
    """

    def __init__(self, requests: Sequence[bytes], gaps: Iterator[float]) -> None:
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._requests = itertools.cycle(requests)
        self._gaps = gaps
        self._connections: list[_Connection] = []
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[float, float]] = deque()
        self._answers: list[tuple[float, float, float, int]] = []
        self._is_stopped = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, port: int, connections: int, seconds: float) -> npt.NDArray[np.void]:
        """Send for a while.

        Parameters
        ----------
        port : int
            Of the server, on this machine.
        connections : int
            How many are made.
        seconds : float
            How long, unless `stop` is called earlier.

        Returns
        -------
        ndarray, shape (n,), of type ANSWER
            In the order of the answers.

        Raises
        ------
        ConnectionError
            If the server closed a connection, or sent what is no answer.
        TimeoutError
            If it left a request without an answer.
        """
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, made = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port)
            self._connections.append(made)
        self._idle.extend(self._connections)
        loop.call_later(seconds, self.stop)
        self._follow(_Alarm())
        try:
            await asyncio.wait_for(self._ended, seconds + _PATIENCE_SECONDS)
        finally:
            for connection in self._connections:
                connection.close()
        return np.array(self._answers, dtype=ANSWER)

    def stop(self) -> None:
        """Send nothing more; what is under way is waited for."""
        self._is_stopped = True
        self._end_if_idle()

    def answered(self, connection: _Connection, due: float, late: float, status: int) -> None:
        """Note an answer, and send on its connection what waits for one."""
        now = time.monotonic()
        self._answers.append((due, late, now - due, status))
        if self._waiting:
            connection.send(next(self._requests), *self._waiting.popleft())
        else:
            self._idle.append(connection)
            self._end_if_idle()

    def lost(self, error: Exception | None) -> None:
        """Give up: a connection was closed."""
        if not self._ended.done():
            told = f"the server closed a connection: {error or 'without an error'}"
            self._ended.set_exception(ConnectionError(told))

    def _follow(self, alarm: _Alarm) -> None:
        """Send what is due whenever the alarm goes off, and set it for what comes next."""
        due = time.monotonic() + next(self._gaps)

        def arrive() -> None:
            nonlocal due
            alarm.clear()
            if self._is_stopped:
                return
            now = time.monotonic()
            while due <= now:  # what becomes due meanwhile has its turn after the answers
                late = time.monotonic() - due
                if self._idle:
                    self._idle.popleft().send(next(self._requests), due, late)
                else:
                    self._waiting.append((due, late))
                due += next(self._gaps)
            alarm.set(due)

        asyncio.get_running_loop().add_reader(alarm.fd, arrive)
        alarm.set(due)

    def _end_if_idle(self) -> None:
        is_idle = not self._waiting and len(self._idle) == len(self._connections)
        if self._is_stopped and is_idle and not self._ended.done():
            self._ended.set_result(None)


class _Connection(asyncio.BufferedProtocol):
    """One connection, with at most one request under way; answers are counted, not kept."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._due = self._late = 0.0
        self._forget()

    def _forget(self) -> None:
        self._head = b""
        self._status = self._size = self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def send(self, request: bytes, due: float, late: float) -> None:
        self._due, self._late = due, late
        self._transport.write(request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._sender.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received += nbytes
        if not self._size:
            self._head += bytes(self._sender.buffer[: min(nbytes, _HEAD_BYTES)])
            found = read_head(self._head)
            if found is None:
                return
            self._status, self._size = found
        if self._received >= self._size:
            status = self._status
            self._forget()
            self._sender.answered(self, self._due, self._late, status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sender.lost(exc)

    def close(self) -> None:
        self._transport.abort()


async def _run(arguments: argparse.Namespace) -> npt.NDArray[np.void]:
    lines = arguments.bodies.read_bytes().splitlines()
    requests = [request_of(line, arguments.path, arguments.accept) for line in lines]
    sender = Sender(requests, poisson_gaps(arguments.rate, arguments.seed))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sender.stop)
    gc.disable()  # it would pause us, and there are no cycles to find
    sys.stdout.buffer.write(_BEGUN)
    sys.stdout.buffer.flush()
    return await sender.run(arguments.port, arguments.connections, arguments.seconds)


def main() -> None:
    """Send, then write what became of the requests to standard output."""
    parser = argparse.ArgumentParser(prog="python -m bench.arrivals", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--accept", required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    records = uvloop.run(_run(parser.parse_args()))
    np.save(sys.stdout.buffer, records)


if __name__ == "__main__":
    main()
