"""What the workers of one service tell each other, in memory that they and their parent share."""

from __future__ import annotations

import mmap
import time
from enum import IntEnum

from gkc.errors import ServiceNotReadyError


class WorkerState(IntEnum):
    """How far a worker is; the order tells which of two is the better one."""

    ABSENT = 0
    """There is none, or callers do not reach it yet: it counts for nothing."""
    STARTING = 1
    """Callers will reach it before it can answer them."""
    UNREADY = 2
    """Callers reach it, and it cannot answer every version that there was at its start."""
    READY = 3
    LEAVING = 4
    """It answers what is under way, and ends."""


class Host:
    """How all workers are, and whether the service is being stopped.

    Parameters
    ----------
    seats : int
        The most workers that there are at a time.
    stuck_seconds : float
        How long an event loop may stand still that has turned before.
    """

    def __init__(self, seats: int, stuck_seconds: float) -> None:
        self._stuck_seconds = stuck_seconds
        # Shared with every process that is forked from now on.
        self._draining = mmap.mmap(-1, 1)
        self.states = memoryview(mmap.mmap(-1, seats))
        self.beats = memoryview(mmap.mmap(-1, 8 * seats)).cast("d")

    def drain(self) -> None:
        """Say that the service is being stopped."""
        self._draining[0] = 1

    @property
    def is_draining(self) -> bool:
        """Whether the service is being stopped."""
        return bool(self._draining[0])

    def check_alive(self) -> None:
        """Check that no event loop stands still; raises ServiceNotReadyError.

        A worker whose own loop does cannot answer that: another one, or a time-out, tells.
        """
        latest = time.monotonic() - self._stuck_seconds
        told = list(zip(self.states, self.beats, strict=True))
        stuck = sum(state != WorkerState.ABSENT and 0 < beat < latest for state, beat in told)
        if stuck:
            raise ServiceNotReadyError(
                f"the event loops of {stuck} workers stand still, and nobody replaces them"
            )

    def check_stays(self) -> None:
        """Check that the service is not being stopped; raises ServiceNotReadyError."""
        if self.is_draining:
            raise ServiceNotReadyError("this service is being stopped")

    def check_ready(self) -> None:
        """Check that whichever worker a caller reaches can answer.

        Raises
        ------
        ServiceNotReadyError
            If not; says why.
        """
        states = list(self.states)
        waiting = states.count(WorkerState.STARTING) + states.count(WorkerState.UNREADY)
        if waiting:
            known = waiting + states.count(WorkerState.READY)
            raise ServiceNotReadyError(f"{waiting} of {known} workers still load what they serve")
        if WorkerState.READY not in states:
            raise ServiceNotReadyError("its only worker is being replaced")


class Seat:
    """One worker's place among those of its host.

    Parameters
    ----------
    host : Host
    number : int
    """

    def __init__(self, host: Host, number: int) -> None:
        self.host = host
        self._number = number

    def take(self, state: WorkerState) -> None:
        """Make room for a new worker, which has not beaten yet."""
        self.host.beats[self._number] = 0
        self.state = state

    def beat(self) -> None:
        """Say that the event loop turns."""
        self.host.beats[self._number] = time.monotonic()

    @property
    def last_beat(self) -> float:
        """When the event loop turned last, by the monotonic clock; 0 if it never did."""
        return self.host.beats[self._number]

    @property
    def state(self) -> WorkerState:
        """How far the worker is."""
        return WorkerState(self.host.states[self._number])

    @state.setter
    def state(self, state: WorkerState) -> None:
        self.host.states[self._number] = state

    @property
    def serves(self) -> bool:
        """Whether callers reach the worker."""
        return self.state >= WorkerState.UNREADY
