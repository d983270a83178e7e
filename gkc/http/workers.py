"""The processes that answer: started, watched, replaced one by one, stopped together.

A worker says by bytes in a pipe that its event loop turns, and by its seat how far it is. A start
may take as long as it takes; a worker that has beaten once and then falls silent is asked where it
stands, and killed. When its parent dies, a worker stops by itself.

gunicorn's arbiter, and uvicorn's supervisor, do less: see docs/decisions/0024-own-supervisor.md.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Final

import structlog

from gkc.errors import CommandError
from gkc.http.host import SPAWN, Host, Seat, WorkerState

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 1.0
"""Longest time between two beats of a worker whose event loop turns."""
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
RETIRE: Final = signal.SIGUSR1
"""Has a worker leave while another answers in its place."""
_TELL_STACK: Final = signal.SIGUSR2
_TELL_SECONDS: Final = 1.0
_BEAT: Final = b"."


@dataclass(frozen=True)
class WorkerLimits:
    """How long workers may take.

    Attributes
    ----------
    stuck_seconds : float
        Without a beat of one that has beaten before.
    stop_seconds : float
        From being told to stop to the end.
    """

    stuck_seconds: float
    stop_seconds: float


@dataclass(frozen=True)
class Assignment:
    """What a worker is given by its parent.

    Attributes
    ----------
    listener : socket.socket
        Shared by all workers.
    seat : Seat
    is_substitute : bool
        Others answer: callers are to reach this one once it is as ready as they are.
    pipe : Connection
        Where `beat` writes.
    """

    listener: socket.socket
    seat: Seat
    is_substitute: bool
    pipe: Connection

    def beat(self) -> None:
        """Tell that the event loop turns, or that the state of the seat is a new one."""
        # A parent that is held up will find plenty of beats; or it is no more.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.pipe.fileno(), _BEAT)


Work = Callable[[Assignment], None]
"""What a worker does, in a process of its own: serve, beat, and keep its seat's state."""


def _begin(work: Work, assignment: Assignment, stop_seconds: float) -> None:
    """Begin a worker's life: Ctrl-C is its parent's business until the server handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.set_blocking(assignment.pipe.fileno(), False)
    faulthandler.register(_TELL_STACK, file=assignment.pipe.fileno())
    threading.Thread(
        target=_end_with_parent, args=(assignment.seat.host, stop_seconds), daemon=True
    ).start()
    work(assignment)


def _end_with_parent(host: Host, stop_seconds: float) -> None:
    """Wait for the parent's end; then end, too: at once, but for requests that are under way."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    host.drain()
    log.error("parent_gone", remedy="this worker stops; start gkc serve again")
    os.kill(os.getpid(), signal.SIGTERM)  # the end of one that does not serve yet
    os.kill(os.getpid(), signal.SIGINT)  # without the delay that SIGTERM has
    time.sleep(stop_seconds)
    os._exit(1)


class _Worker:
    """One process, and when it was last heard of."""

    def __init__(
        self, work: Work, assignment: Assignment, limits: WorkerLimits, beats: Connection
    ) -> None:
        self._limits = limits
        self._deadline: float | None = None
        self._stack = b""
        self._is_suspected = False
        self.seat = assignment.seat
        self.beats = beats
        self.is_told_to_leave = False
        arguments = (work, assignment, limits.stop_seconds)
        self.process = SPAWN.Process(target=_begin, args=arguments)
        # The new process begins with what is blocked here: Ctrl-C reaches all processes of a
        # terminal, and one that is still importing would tell of it by a traceback.
        resource_tracker.ensure_running()  # the first start would begin it, which unblocks
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        assignment.pipe.close()  # so that the pipe ends with the worker

    @property
    def serves(self) -> bool:
        return self.seat.state >= WorkerState.UNREADY

    @property
    def is_leaving(self) -> bool:
        return self.is_told_to_leave or self.seat.state is WorkerState.LEAVING

    def hear(self) -> None:
        """Take the beats that have come, or the stack that was asked for."""
        said = os.read(self.beats.fileno(), 65536)
        if self._is_suspected:
            self._stack += said
        elif said and not self.is_told_to_leave:
            self._deadline = time.monotonic() + self._limits.stuck_seconds

    def check(self) -> None:
        """Kill it if its time is over; one that fell silent is asked for its stack before."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return
        if self.is_told_to_leave or self._is_suspected:
            stack = self._stack.lstrip(_BEAT).decode(errors="replace")
            log.error("worker_stuck", pid=self.process.pid, stack=stack)
            self.process.kill()
            self._deadline = None
        else:
            self._is_suspected = True
            self._deadline = time.monotonic() + _TELL_SECONDS
            self._send(_TELL_STACK)

    def leave(self, number: signal.Signals) -> None:
        """Have it end after the requests that are under way; one that never served has none."""
        if not self.is_told_to_leave:
            self.is_told_to_leave = True
            self._deadline = time.monotonic() + self._limits.stop_seconds
        self._send(number if self.serves else signal.SIGKILL)

    def bury(self) -> None:
        """Wait for its end, and let go of what it held."""
        self.process.join()
        self.beats.close()
        self.seat.state = WorkerState.ABSENT

    def _send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


class Workers:
    """Keeps so many workers running until SIGTERM or SIGINT; from its construction on.

    SIGHUP replaces every worker by a new one, which is ready before an old one leaves.

    Parameters
    ----------
    count : int
    listener : socket.socket
        Shared by all workers; closed when the service is told to stop.
    limits : WorkerLimits
    """

    def __init__(self, count: int, listener: socket.socket, limits: WorkerLimits) -> None:
        self._count = count
        self._listener = listener
        self._limits = limits
        self._host = Host(2 * count + 1)
        self._free_seats = [self._host.seat(number) for number in range(2 * count + 1)]
        self._workers: list[_Worker] = []
        self._outdated: list[_Worker] = []
        self._is_announced = False
        self._is_stopping = False
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        # The handlers do nothing: each signal also arrives as a byte, in the loop that acts on it.
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in (*STOPPING, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def run(self, work: Work, announce: Callable[[], None]) -> None:
        """Run them; ``announce`` is called once, when every worker serves.

        Raises
        ------
        CommandError
            If a worker ends by itself before the service ever served: the next one would, too.
        """
        try:
            while self._workers or not self._is_stopping:
                if not self._is_stopping:
                    self._fill_up(work)
                self._turn()
                if not self._is_announced and self._serves:
                    self._is_announced = True
                    announce()
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.bury()
            signal.set_wakeup_fd(-1)
            self._signals.close()
            self._wakeup.close()

    @property
    def _serves(self) -> bool:
        """Whether every worker answers, and is to go on."""
        return sum(worker.serves for worker in self._staying) >= self._count

    @property
    def _staying(self) -> list[_Worker]:
        return [worker for worker in self._workers if not worker.is_leaving]

    def _fill_up(self, work: Work) -> None:
        """Start the workers that are missing; one more while others are to be replaced."""
        while len(self._staying) < self._count + bool(self._outdated) and self._free_seats:
            seat = self._free_seats.pop()
            is_substitute = any(w.seat.state is WorkerState.READY for w in self._workers)
            seat.state = WorkerState.ABSENT if is_substitute else WorkerState.STARTING
            beats, theirs = SPAWN.Pipe(duplex=False)
            assignment = Assignment(self._listener, seat, is_substitute, theirs)
            self._workers.append(_Worker(work, assignment, self._limits, beats))

    def _turn(self) -> None:
        """Wait for the next thing to happen, and act on it."""
        beats = [worker.beats for worker in self._workers]
        ends = [worker.process.sentinel for worker in self._workers]
        ready = wait([self._signals, *beats, *ends], BEAT_SECONDS)
        if self._signals in ready:
            self._obey(set(self._signals.recv(4096)))
        for worker in list(self._workers):
            if worker.beats in ready:
                worker.hear()
            if worker.process.sentinel in ready:
                self._take_leave(worker)
            else:
                worker.check()
        self._retire_one()

    def _obey(self, numbers: set[int]) -> None:
        if numbers & set(STOPPING):
            is_urgent = self._is_stopping or signal.SIGINT in numbers
            self._is_stopping = True
            self._host.drain()
            self._listener.close()  # the workers have it for as long as they accept
            for worker in self._workers:
                worker.leave(signal.SIGINT if is_urgent else signal.SIGTERM)
        elif signal.SIGHUP in numbers:
            self._outdated = self._staying

    def _retire_one(self) -> None:
        """Have an outdated worker leave if the newest one answers as well as it does."""
        staying = self._staying
        if self._outdated and len(staying) > self._count:
            old, new = self._outdated[0], staying[-1]
            if new.serves and new.seat.state >= old.seat.state:
                self._outdated.remove(old)
                old.leave(RETIRE)

    def _take_leave(self, worker: _Worker) -> None:
        """Forget a worker that ended."""
        has_served = worker.serves
        self._workers.remove(worker)
        worker.bury()
        self._free_seats.append(worker.seat)
        status = worker.process.exitcode
        if worker in self._outdated:
            self._outdated.remove(worker)
        if worker.is_told_to_leave:
            return
        if not has_served and status is not None and status >= 0:
            self._tell_failed(status)
        else:
            log.warning("worker_ended", pid=worker.process.pid, status=status)

    def _tell_failed(self, status: int) -> None:
        """Tell of a worker that could not begin; what serves goes on serving."""
        if not self._is_announced:
            raise CommandError(
                f"a worker ended with status {status} before it served; what it printed says why"
            )
        log.error("worker_failed_to_start", status=status)
        self._outdated.clear()
