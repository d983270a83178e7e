"""The processes that answer: forked, watched, replaced one by one, stopped together.

A worker says by its seat how far it is and that its event loop turns, and by a byte in a pipe that
its state is a new one. A start may take as long as it takes; a worker that has beaten once and then
falls silent is asked where it stands, and killed. When its parent dies, a worker stops by itself.
Workers share the memory of what the parent imported.

gunicorn's arbiter, and uvicorn's supervisor, do less: see docs/decisions/0024-own-supervisor.md.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Final

import structlog

from gkc.errors import CommandError
from gkc.http.host import Host, Seat, WorkerState
from gkc.http.process_title import WORKER, set_title

log = structlog.get_logger(__name__)

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
RETIRE: Final = signal.SIGUSR1
"""Has a worker leave while another answers in its place."""
_FORK: Final = get_context("fork")
_TELL_STACK: Final = signal.SIGUSR2
_HANDLED: Final = (*STOPPING, signal.SIGHUP)
_LOOK_SECONDS: Final = 1.0
"""How often workers are looked at from which there is no news."""
_TELL_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.5
"""From the end of one that never served to the next start: what ended it is likely still so."""
_NEWS: Final = b"."


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
        Where `set_state` writes; it ends with the worker.
    """

    listener: socket.socket
    seat: Seat
    is_substitute: bool
    pipe: Connection

    def set_state(self, state: WorkerState) -> None:
        """Say how far this worker is, and have the parent look if that is new."""
        if state != self.seat.state:
            self.seat.state = state
            # A parent that is held up finds enough to read; or it is no more.
            with suppress(BlockingIOError, BrokenPipeError):
                os.write(self.pipe.fileno(), _NEWS)


Work = Callable[[Assignment], None]
"""What a worker does, in a process of its own: serve, beat, and keep its seat's state."""


class _Lifeline:
    """A pipe whose writing end only the parent has: it ends with the parent, however that ends.

    Parameters
    ----------
    stop_seconds : float
        What a worker has from then on.
    clean_up : callable
        What the parent would do at its end.
    """

    def __init__(self, stop_seconds: float, clean_up: Callable[[], None]) -> None:
        self._reading, self._writing = os.pipe()
        self._stop_seconds = stop_seconds
        self._clean_up = clean_up

    def close(self) -> None:
        """Let go of it, in the parent."""
        os.close(self._reading)
        os.close(self._writing)

    def hold(self, seat: Seat) -> None:
        """Have this worker end with its parent."""
        os.close(self._writing)
        threading.Thread(target=self._end_with_parent, args=(seat,), daemon=True).start()

    def _end_with_parent(self, seat: Seat) -> None:
        """Wait for the parent's end; then end, too: at once, but for what is under way."""
        os.read(self._reading, 1)
        seat.host.drain()
        log.error("parent_gone", remedy="this worker stops; start gkc serve again")
        self._clean_up()  # now, since any worker may be killed, too
        if seat.serves:
            os.kill(os.getpid(), signal.SIGINT)  # without the delay that SIGTERM has
            time.sleep(self._stop_seconds)
        os._exit(1)


def _begin(work: Work, assignment: Assignment, lifeline: _Lifeline) -> None:
    """Begin a worker's life: Ctrl-C is its parent's business until the server handles it."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
    os.set_blocking(assignment.pipe.fileno(), False)
    faulthandler.register(_TELL_STACK, file=assignment.pipe.fileno())
    lifeline.hold(assignment.seat)
    set_title(WORKER)
    work(assignment)


class _Worker:
    """One process, and when it was last heard of."""

    def __init__(
        self,
        work: Work,
        assignment: Assignment,
        limits: WorkerLimits,
        lifeline: _Lifeline,
        news: Connection,
    ) -> None:
        self._limits = limits
        self._deadline: float | None = None
        self._stack = b""
        self._is_suspected = False
        self.seat = assignment.seat
        self.news = news
        self.is_told_to_leave = False
        self.process = _FORK.Process(target=_begin, args=(work, assignment, lifeline))
        # A signal that reaches the new process while it still has our handlers is none of ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        self.process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        assignment.pipe.close()  # so that the pipe ends with the worker

    @property
    def is_leaving(self) -> bool:
        return self.is_told_to_leave or self.seat.state is WorkerState.LEAVING

    def hear(self) -> None:
        """Take what came: a byte for each news, or the stack that was asked for."""
        said = os.read(self.news.fileno(), 65536)
        if self._is_suspected:
            self._stack += said

    def check(self) -> None:
        """Kill it if its time is over; one that fell silent is asked for its stack before."""
        now = time.monotonic()
        if self._deadline is not None:
            if now > self._deadline:
                stack = self._stack.lstrip(_NEWS).decode(errors="replace")
                log.error("worker_stuck", pid=self.process.pid, stack=stack)
                self.process.kill()
                self._deadline = None
        elif 0 < self.seat.last_beat < now - self._limits.stuck_seconds:
            self._is_suspected = True
            self._deadline = now + _TELL_SECONDS
            self._send(_TELL_STACK)

    def leave(self, number: signal.Signals) -> None:
        """Have it end after the requests that are under way; one that never served has none."""
        if not self.is_told_to_leave:
            self.is_told_to_leave = True
            self._deadline = time.monotonic() + self._limits.stop_seconds
        self._send(number if self.seat.serves else signal.SIGKILL)

    def bury(self) -> None:
        """Wait for its end, and let go of what it held."""
        self.process.join()
        self.news.close()
        self.seat.state = WorkerState.ABSENT

    def _send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        with suppress(ProcessLookupError):  # it has just ended
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
        seats = 2 * count + 1
        self._host = Host(seats, limits.stuck_seconds)
        self._free_seats = [Seat(self._host, number) for number in range(seats)]
        self._workers: list[_Worker] = []
        self._outdated: list[_Worker] = []
        self._next_start = 0.0
        self._is_announced = False
        self._is_stopping = False
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        # The handlers do nothing: each signal also arrives as a byte, in the loop that acts on it.
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in _HANDLED:
            signal.signal(number, lambda *_: None)

    def run(
        self,
        work: Work,
        announce: Callable[[], None],
        clean_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Run them.

        Parameters
        ----------
        work : callable
        announce : callable
            Called once, when every worker serves.
        clean_up : callable, optional
            What each worker does if this process is no more.

        Raises
        ------
        CommandError
            If a worker ends by itself before the service ever served: the next one would, too.
        """
        lifeline = _Lifeline(self._limits.stop_seconds, clean_up)
        gc.collect()
        gc.freeze()  # else a worker's collections would copy all that it shares with us
        try:
            while self._workers or not self._is_stopping:
                if not self._is_stopping and time.monotonic() >= self._next_start:
                    self._fill_up(work, lifeline)
                self._turn()
                if not self._is_announced and self._serves:
                    self._is_announced = True
                    announce()
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.bury()
            lifeline.close()
            signal.set_wakeup_fd(-1)
            self._signals.close()
            self._wakeup.close()

    @property
    def _serves(self) -> bool:
        """Whether every worker answers, and is to go on."""
        return sum(worker.seat.serves for worker in self._staying) >= self._count

    @property
    def _staying(self) -> list[_Worker]:
        return [worker for worker in self._workers if not worker.is_leaving]

    def _fill_up(self, work: Work, lifeline: _Lifeline) -> None:
        """Start the workers that are missing; one more while others are to be replaced.

        A signal comes first: many starts take long.
        """
        while self._lacks_one() and self._free_seats and not wait([self._signals], 0):
            seat = self._free_seats.pop()
            is_substitute = any(w.seat.state is WorkerState.READY for w in self._workers)
            seat.take(WorkerState.ABSENT if is_substitute else WorkerState.STARTING)
            news, theirs = _FORK.Pipe(duplex=False)
            assignment = Assignment(self._listener, seat, is_substitute, theirs)
            self._workers.append(_Worker(work, assignment, self._limits, lifeline, news))

    def _lacks_one(self) -> bool:
        staying = self._staying  # looked at once: any of them may begin to leave by itself
        return len(staying) < self._count + any(worker in self._outdated for worker in staying)

    def _turn(self) -> None:
        """Wait for the next thing to happen, and act on it."""
        news = [worker.news for worker in self._workers]
        ends = [worker.process.sentinel for worker in self._workers]
        ready = wait([self._signals, *news, *ends], _LOOK_SECONDS)
        if self._signals in ready:
            self._obey(set(self._signals.recv(4096)))
        for worker in list(self._workers):
            if worker.news in ready:
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
        outdated = [worker for worker in staying if worker in self._outdated]
        if outdated and len(staying) > self._count:
            old, new = outdated[0], staying[-1]
            if new.seat.serves and new.seat.state >= old.seat.state:
                self._outdated.remove(old)
                old.leave(RETIRE)

    def _take_leave(self, worker: _Worker) -> None:
        """Forget a worker that ended."""
        has_served = worker.seat.serves
        self._workers.remove(worker)
        worker.bury()
        self._free_seats.append(worker.seat)
        status = worker.process.exitcode
        if worker.is_told_to_leave:
            return
        if not has_served:
            self._next_start = time.monotonic() + _AGAIN_SECONDS
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
