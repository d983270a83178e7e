"""What workers know of each other, and what that makes of their host."""

from __future__ import annotations

import time

import pytest

from gkc.errors import ServiceNotReadyError
from gkc.http.host import Host, Seat, WorkerState
from gkc.http.host import WorkerState as S


@pytest.mark.parametrize(
    "states",
    [
        [S.READY, S.READY, S.ABSENT],
        [S.READY, S.ABSENT, S.ABSENT],  # a substitute, which callers do not reach yet
        [S.READY, S.LEAVING, S.ABSENT],
    ],
)
def test_a_host_is_ready_if_every_worker_that_callers_reach_is(states: list[WorkerState]) -> None:
    host_of(states).check_ready()


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ([S.READY, S.STARTING, S.ABSENT], "1 of 2 workers"),
        ([S.UNREADY, S.STARTING, S.READY], "2 of 3 workers"),
        ([S.LEAVING, S.ABSENT, S.ABSENT], "being replaced"),
    ],
)
def test_else_it_says_why_not(states: list[WorkerState], told: str) -> None:
    with pytest.raises(ServiceNotReadyError, match=told):
        host_of(states).check_ready()


def test_a_host_that_is_being_stopped_says_so() -> None:
    host = host_of([S.READY])
    host.check_stays()
    host.drain()
    with pytest.raises(ServiceNotReadyError, match="being stopped"):
        host.check_stays()


def test_a_host_is_alive_unless_an_event_loop_that_turned_stands_still() -> None:
    host = host_of([S.READY, S.STARTING, S.READY])
    first, starting, second = (Seat(host, number) for number in range(3))
    first.beat()
    host.check_alive()  # the others have not beaten yet: a start may take its time
    time.sleep(0.11)
    second.beat()
    with pytest.raises(ServiceNotReadyError, match="the event loops of 1 workers stand still"):
        host.check_alive()
    first.state = S.ABSENT  # it is being replaced
    host.check_alive()
    assert starting.last_beat == 0


def host_of(states: list[WorkerState]) -> Host:
    host = Host(len(states), stuck_seconds=0.1)
    for number, state in enumerate(states):
        Seat(host, number).take(state)
    return host
