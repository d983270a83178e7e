"""What the workers of one service tell each other: a byte each, in memory that they share."""

from __future__ import annotations

from enum import IntEnum
from multiprocessing import get_context
from typing import Final

from gkc.errors import ServiceNotReadyError

SPAWN: Final = get_context("spawn")


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
    """The states of all workers, and whether the service is being stopped.

    Parameters
    ----------
    seats : int
        The most workers that there are at a time.
    """

    def __init__(self, seats: int) -> None:
        self._states = SPAWN.RawArray("B", seats)
        self._draining = SPAWN.RawValue("B", 0)

    def drain(self) -> None:
        """Say that the service is being stopped."""
        self._draining.value = 1

    @property
    def is_draining(self) -> bool:
        """Whether the service is being stopped."""
        return bool(self._draining.value)

    @property
    def is_deserted(self) -> bool:
        """Whether no worker is left."""
        return not any(self._states)

    def seat(self, number: int) -> Seat:
        """Return a worker's own place."""
        return Seat(self, number)

    def state(self, number: int) -> WorkerState:
        """Return the state of the worker that has this seat."""
        return WorkerState(self._states[number])

    def set_state(self, number: int, state: WorkerState) -> None:
        """Say how far the worker with this seat is."""
        self._states[number] = state

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
        states = list(self._states)
        waiting = states.count(WorkerState.STARTING) + states.count(WorkerState.UNREADY)
        if waiting:
            known = waiting + states.count(WorkerState.READY)
            raise ServiceNotReadyError(f"{waiting} of {known} workers still load what they serve")
        if WorkerState.READY not in states:
            raise ServiceNotReadyError("its only worker is being replaced")


class Seat:
    """One worker's place among those of its host."""

    def __init__(self, host: Host, number: int) -> None:
        self.host = host
        self._number = number

    @property
    def state(self) -> WorkerState:
        """How far the worker is."""
        return self.host.state(self._number)

    @state.setter
    def state(self, state: WorkerState) -> None:
        self.host.set_state(self._number, state)
