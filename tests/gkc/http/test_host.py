"""What workers know of each other, and what that makes of their host."""

from __future__ import annotations

import pytest

from gkc.errors import ServiceNotReadyError
from gkc.http.host import Host, WorkerState
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


def host_of(states: list[WorkerState]) -> Host:
    host = Host(len(states))
    for number, state in enumerate(states):
        host.seat(number).state = state
    return host
