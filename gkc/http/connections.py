"""All connections of a worker: looked at once a second, for whoever keeps it waiting.

One timer for all of them: one a connection, set and cancelled with each request, costs more than
its small answer is worth.
"""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import Sequence
from heapq import nsmallest
from typing import Final, Protocol

import structlog

from gkc.http.admission import Admission
from gkc.http.limits import Limits
from gkc.http.memory import give_freed_memory_back
from gkc.http.metrics import Metrics

log = structlog.get_logger(__name__)

_CROWD_BYTES: Final = 32 << 20
"""Of answers that waited together: what they leave is not needed any more once they are gone."""


_SPARE_DESCRIPTORS: Final = 128
"""For the store, and for files; or half of them, where there are few."""

_Header = tuple[bytes, bytes]


class Connection(Protocol):
    """What is looked at."""

    @property
    def unsent_bytes(self) -> int:
        """What the caller has not taken yet of its answer."""

    @property
    def idle_since(self) -> float | None:
        """When it was answered, or made; None while a request comes or is answered."""

    def look(self, now: float) -> None:
        """End the connection if its caller keeps us waiting for too long."""

    def close(self) -> None:
        """End it once what is written has left."""


class Connections:
    """The connections of this process, and what they share.

    Parameters
    ----------
    metrics : Metrics
    limits : Limits
    admission : Admission
    """

    def __init__(self, metrics: Metrics, limits: Limits, admission: Admission) -> None:
        self.metrics = metrics
        self.admission = admission
        self.limits = limits
        self._open: set[Connection] = set()
        self._most_open = _most_open()
        self._looks = False
        self._most_held = 0
        self._default_headers: Sequence[_Header] = ()
        self._default_head = b"", False

    def add(self, connection: Connection) -> None:
        """Look at a connection from now on; if there are too many, idle ones are closed for it."""
        if len(self._open) >= self._most_open:
            self._close_idle(connection)
        self._open.add(connection)
        if not self._looks:
            self._looks = True
            self._look_later()

    def remove(self, connection: Connection) -> None:
        """Forget a connection that ended."""
        self._open.discard(connection)

    def default_head(self, headers: Sequence[_Header]) -> tuple[bytes, bool]:
        """Return the lines of headers that every answer has, and whether they end connections.

        The server changes them once a second.
        """
        if headers != self._default_headers:
            self._default_headers = [*headers]
            by_name = dict(headers)
            lines = b"".join([b"%b: %b\r\n" % header for header in by_name.items()])
            self._default_head = lines, b"connection" in by_name
        return self._default_head

    def _close_idle(self, newcomer: Connection) -> None:
        """Close those that have been idle for longest, some at once; if none is, the newcomer."""
        since = {each: each.idle_since for each in self._open}
        idle = {each: moment for each, moment in since.items() if moment is not None}
        if not idle:
            remedy = "`ulimit -n` says for how many connections there is room"
            log.warning("connection_refused", most=self._most_open, remedy=remedy)
        for each in nsmallest(1 + len(idle) // 16, idle, idle.__getitem__) or [newcomer]:
            each.close()

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(self.limits.look_seconds, self._look)

    def _look(self) -> None:
        self._looks = bool(self._open)
        if self._looks:
            self._look_later()
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._open):
            connection.look(now)
        unsent = sum(connection.unsent_bytes for connection in self._open)
        self.metrics.connections(len(self._open), unsent)
        # The system's buffers take megabytes of an answer, and what it was made from is in neither.
        held = max(unsent, self.admission.held_bytes)
        self._most_held = max(self._most_held, held)
        if self._most_held > _CROWD_BYTES and held < self._most_held // 4:
            self._most_held = held
            give_freed_memory_back()


def _most_open() -> float:
    """Return how many connections there are descriptors for."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return math.inf
    return allowed - min(_SPARE_DESCRIPTORS, allowed // 2)
