"""Connections are looked at as long as there are any, and what they hold is told."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from gkc.http import connections as module
from gkc.http.admission import Admission
from gkc.http.connections import Connections
from gkc.http.limits import Limits
from gkc.http.metrics import Metrics
from tests.gkc.http.running import eventually

PAUSE = 0.01


@dataclass(eq=False)
class Looked:
    """A connection that writes down when it was looked at."""

    unsent_bytes: int = 0
    times: list[float] = field(default_factory=list)
    idle_since: float | None = None
    is_closed: bool = False

    def close(self) -> None:
        self.is_closed = True

    def look(self, now: float) -> None:
        self.times.append(now)


def told(metrics: Metrics) -> tuple[float, float]:
    """Return how many connections there are, and the bytes that they hold."""
    lines = dict(
        x.rpartition(" ")[::2]
        for x in metrics.render(None, True).decode().splitlines()
        if x[0] != "#"
    )
    return float(lines["gkc_open_connections"]), float(lines["gkc_answer_bytes_inflight"])


async def until_looked(connection: Looked, times: int) -> None:
    async def is_looked_at() -> bool:
        return len(connection.times) >= times

    await eventually(is_looked_at)


async def test_each_is_looked_at_until_it_ends() -> None:
    metrics = Metrics()
    connections = Connections(metrics, Limits(look_seconds=PAUSE), Admission())
    first, second = Looked(10), Looked(5)
    connections.add(first)
    await until_looked(first, 2)
    assert told(metrics) == (1, 10)
    connections.add(second)
    await until_looked(second, 2)
    assert told(metrics) == (2, 15)
    assert first.times == sorted(set(first.times))
    connections.remove(first)
    connections.remove(second)
    looks = len(first.times)
    await asyncio.sleep(3 * PAUSE)
    assert told(metrics) == (0, 0)
    assert len(first.times) == looks
    connections.add(second)
    await until_looked(second, len(second.times) + 1)
    connections.remove(second)


async def test_memory_is_given_back_when_a_crowd_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(module, "give_freed_memory_back", lambda: given.append(1))
    connections = Connections(Metrics(), Limits(look_seconds=PAUSE), Admission())
    connection = Looked(100 << 20)
    connections.add(connection)
    for unsent, times in [(100 << 20, 0), (50 << 20, 0), (10 << 20, 1), (0, 1)]:
        connection.unsent_bytes = unsent
        await until_looked(connection, len(connection.times) + 2)
        assert len(given) == times
    connections.remove(connection)


async def test_what_the_system_buffers_is_given_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(module, "give_freed_memory_back", lambda: given.append(1))
    admission = Admission()
    connections = Connections(Metrics(), Limits(look_seconds=PAUSE), admission)
    connection = Looked()
    connections.add(connection)
    held = admission.hold(100 << 20)
    await until_looked(connection, 2)
    assert not given
    admission.free(held)
    await until_looked(connection, len(connection.times) + 2)
    assert len(given) == 1
    connections.remove(connection)


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, allowed[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


@pytest.mark.usefixtures("few_descriptors")
async def test_for_one_more_than_there_are_descriptors_the_longest_idle_are_closed() -> None:
    connections = Connections(Metrics(), Limits(), Admission())
    idle = [Looked(idle_since=float(k)) for k in range(64)]
    busy = [Looked() for _ in range(64)]
    for each in (*busy, *reversed(idle)):
        connections.add(each)
    newcomer = Looked(idle_since=100.0)
    connections.add(newcomer)
    assert [each.is_closed for each in idle] == [True] * 5 + [False] * 59
    for each in idle:
        connections.remove(each)
    connections.remove(newcomer)
    for _ in range(64):
        connections.add(Looked())
    connections.add(newcomer)
    assert newcomer.is_closed
    assert not any(each.is_closed for each in busy)
