"""Load over HTTP from callers who do not wait for each other: Poisson arrivals at a given rate.

The generator is a process of its own, pinned to its cores. A request is due when the schedule says,
however late the answers before it are, and its latency counts from then: a server that hangs is
charged for everyone who came meanwhile. A request takes the connection that was used last, as most
pools do; one that finds none idle waits.
Load from callers who wait for each answer is wrk's (`bench.load`).
"""

from __future__ import annotations

import ctypes
import gc
import io
import itertools
import json
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from bench.load import Ask

CONNECTIONS = 64
"""All of them are kept open; so many requests can be under way."""
LOST = 0
"""Status of a request whose connection was closed instead of an answer."""
ANSWER = np.dtype(
    [
        ("due_s", "<f8"),
        ("late_s", "<f8"),
        ("latency_s", "<f8"),
        ("status", "<i4"),
        ("request", "<i4"),
        ("crc32", "<u4"),
    ]
)
"""One request: when it was due (CLOCK_MONOTONIC), how much later it was sent, when it was answered
counted from when it was due, and how; which of the bodies it was, and the CRC-32 of the answer's
last bytes, if that was wished."""

Answer = tuple[float, float, float, int, int, int]

_BEGUN = b"begun\n"
_GAPS_AT_ONCE = 4096
_BUFFER_BYTES = 1 << 20
_HEAD_BYTES = 4096
_PATIENCE_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 0.1
_PR_SET_TIMERSLACK = 29
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Answers:
    """What became of the requests."""

    records: npt.NDArray[np.void]
    """Shape (n,), of type ``ANSWER``, in the order of the answers."""

    @property
    def served(self) -> Answers:
        """Those of status 200."""
        return Answers(self.records[self.records["status"] == 200])

    @property
    def failed(self) -> int:
        """Answers other than 200."""
        return int(np.count_nonzero(self.records["status"] != 200))

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
        records = self.records[(due >= start) & (due < end)]
        if not len(records):
            raise ValueError(f"no request was due in the {end - start:.3f} s from {start:.3f} on")
        return Answers(records)


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
            If the server is gone, or left a request without an answer.
        """
        records, _ = self._process.communicate()
        if self._process.returncode:
            raise SystemExit("the load generator failed, see above")
        return Answers(np.load(io.BytesIO(records)))


@contextmanager
def offering(
    asked: Ask,
    cores: Collection[int],
    *,
    seconds: float,
    rate: float,
    seed: int = 0,
    connections: int = CONNECTIONS,
    deadline_ms: int | None = None,
    tail_bytes: int = 0,
) -> Iterator[Offer]:
    """Send requests, ``rate`` a second, until they are stopped or the time is over.

    Parameters
    ----------
    asked : Ask
        Of whom, and what; its connections are ours.
    cores : collection of int
        Cores of the load generator.
    seconds : float
        How long at most.
    rate : float
        Arrivals per second.
    seed : int
        Of the schedule.
    connections : int
        So many requests can be under way.
    deadline_ms : int, optional
        What each request says that it waits for.
    tail_bytes : int
        How many bytes at the end of each answer are summed up.

    Yields
    ------
    Offer
        Begun; it is ended with the block if it has not ended by itself.
    """
    what = {"port": asked.server.port, "bodies": str(asked.bodies), "accept": asked.accept}
    when = {"seconds": seconds, "rate": rate, "seed": seed}
    how = {"connections": connections, "deadline_ms": deadline_ms, "tail_bytes": tail_bytes}
    with subprocess.Popen(
        [sys.executable, "-m", "bench.arrivals", json.dumps(what | when | how)],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != _BEGUN:
                raise SystemExit("the load generator did not start, see above")
            yield Offer(process)
        finally:
            process.kill()  # nothing happens to one that has ended


def offer(
    asked: Ask,
    cores: Collection[int],
    *,
    seconds: float,
    rate: float,
    seed: int = 0,
    **how: int,
) -> Answers:
    """Send requests for a while, as ``offering`` does, and return what became of them."""
    with offering(asked, cores, seconds=seconds, rate=rate, seed=seed, **how) as load:
        return load.finish()


def poisson_gaps(rate: float, seed: int) -> Iterator[float]:
    """Yield the seconds between arrivals that know nothing of each other, without end."""
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


def request_of(body: bytes, accept: str, deadline_ms: int | None = None) -> bytes:
    """Return a whole request: head and body."""
    deadline = "" if deadline_ms is None else f"X-Request-Timeout-Ms: {deadline_ms}\r\n"
    head = (
        f"POST /knowledge HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\n{deadline}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class _Connection:
    """One connection, with at most one request under way; answers are counted, not kept."""

    def __init__(self, port: int, tail_bytes: int) -> None:
        self._port = port
        self._tail_bytes = tail_bytes
        self.open()

    def open(self) -> None:
        """Connect, anew if it was lost."""
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_asked = False

    def close(self) -> None:
        self.socket.close()

    def ask(self, number: int, request: bytes, due: float) -> None:
        self.is_asked = True
        self.number, self.due, self.late = number, due, time.monotonic() - due
        self.crc32 = 0
        self._head = b""
        self._status = self._size = self._received = 0
        with suppress(ConnectionError):  # what comes next tells
            self.socket.sendall(request)

    def take(self, buffer: memoryview) -> int | None:
        """Take what has come; return the status of an answer that is whole now, or ``LOST``."""
        try:
            count = self.socket.recv_into(buffer)
        except ConnectionError:
            return LOST
        if not count:
            return LOST
        received = self._received
        self._received += count
        if not self._size:
            self._head += bytes(buffer[: min(count, _HEAD_BYTES)])
            self._status, self._size = read_head(self._head) or (0, 0)
        if self._tail_bytes and self._size:
            before_tail = max(0, self._size - self._tail_bytes - received)
            self.crc32 = crc32(buffer[before_tail:count], self.crc32)
        is_whole = 0 < self._size <= self._received
        return self._status if is_whole else None

    def answer(self, status: int) -> Answer:
        """Return the record of what was asked, which is answered now."""
        self.is_asked = False
        latency = time.monotonic() - self.due
        return self.due, self.late, latency, status, self.number, self.crc32


class Sender:
    """Sends requests when they are due, and notes when they are answered.

    Parameters
    ----------
    requests : sequence of bytes
        Whole requests, sent in turn.
    gaps : iterator of float
        Seconds between arrivals.
    tail_bytes : int
        How many bytes at the end of each answer are summed up.
    """

    def __init__(
        self, requests: Sequence[bytes], gaps: Iterator[float], tail_bytes: int = 0
    ) -> None:
        self._requests = itertools.cycle(enumerate(requests))
        self._gaps = gaps
        self._tail_bytes = tail_bytes
        self._is_stopped = False

    def stop(self) -> None:
        """Send nothing more; what is due is sent, and what is under way waited for."""
        self._is_stopped = True

    def run(self, port: int, connections: int, seconds: float) -> npt.NDArray[np.void]:
        """Send for a while to a server on this machine, unless `stop` is called earlier.

        Returns
        -------
        ndarray, shape (n,), of type ANSWER
            In the order of the answers.

        Raises
        ------
        OSError
            If there is no server any more.
        ValueError
            If it sent what is no answer.
        TimeoutError
            If it left a request without an answer.
        """
        with select.epoll() as epoll, ExitStack() as stack:
            opened = [_Connection(port, self._tail_bytes) for _ in range(connections)]
            for connection in opened:
                stack.callback(connection.close)
                epoll.register(connection.socket, select.EPOLLIN)
            return np.array(self._answers(opened, epoll, seconds), dtype=ANSWER)

    def _answers(
        self, opened: list[_Connection], epoll: select.epoll, seconds: float
    ) -> list[Answer]:
        by_file = {connection.socket.fileno(): connection for connection in opened}
        idle, waiting = opened[::-1], deque[float]()  # those connected first are accepted first
        answers: list[Answer] = []
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        end = time.monotonic() + seconds
        due = time.monotonic() + next(self._gaps)
        while (now := time.monotonic()) < end + _PATIENCE_SECONDS:
            if self._is_stopped or due > end:
                due = math.inf
            while due <= now:
                waiting.append(due)
                due += next(self._gaps)
            while waiting and idle:
                idle.pop().ask(*next(self._requests), waiting.popleft())
            if due == math.inf and len(idle) == len(opened):
                return answers
            wait = min(max(due - time.monotonic(), 0.0), _LONGEST_WAIT_SECONDS)
            select.select([epoll], [], [], wait)  # its own wait is in whole milliseconds
            for file, _ in epoll.poll(0):
                connection = by_file[file]
                status = connection.take(buffer)
                if status is not None and connection.is_asked:
                    answers.append(connection.answer(status))
                    idle.append(connection)
                if status == LOST:
                    connection.close()
                    connection.open()
                    by_file[connection.socket.fileno()] = connection
                    epoll.register(connection.socket, select.EPOLLIN)
        raise TimeoutError(f"no answer in {_PATIENCE_SECONDS:g} s")


def main(
    port: int,
    bodies: str,
    accept: str,
    seconds: float,
    rate: float,
    seed: int,
    connections: int,
    deadline_ms: int | None,
    tail_bytes: int,
) -> None:
    """Send, then write what became of the requests to standard output."""
    lines = Path(bodies).read_bytes().splitlines()
    requests = [request_of(line, accept, deadline_ms) for line in lines]
    sender = Sender(requests, poisson_gaps(rate, seed), tail_bytes)
    signal.signal(signal.SIGTERM, lambda *_: sender.stop())
    gc.disable()  # it would pause us, and there are no cycles to find
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # ns: else the kernel wakes us 50 us late
    sys.stdout.buffer.write(_BEGUN)
    sys.stdout.buffer.flush()
    np.save(sys.stdout.buffer, sender.run(port, connections, seconds))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
