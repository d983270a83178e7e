"""The processes that answer: started, watched, replaced one by one, stopped together.

A worker says by a byte in a pipe that its event loop turns: its first beat means that it serves.
Until then it may take as long as the machine makes it take, and is simply killed when the service
stops; later it is asked to stop, and killed only if its beats stay away. The pipe also tells a
worker that nobody watches it any more: then it stops by itself.

uvicorn's own supervisor asks each worker in turn, for up to five seconds: meanwhile it hears no
signal, and it kills a worker that a busy machine keeps from starting.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Final

import structlog

from gkc.errors import CommandError

log = structlog.get_logger(__name__)

_BEAT_SECONDS: Final = 1.0
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_STUCK_SECONDS: Final = 30.0
_LAST_SECONDS: Final = 40.0
"""For a worker that was asked to stop; longer than it waits for requests in flight."""
_spawn: Final = get_context("spawn")

Work = Callable[["Beats", socket.socket], None]
"""What a worker does, in a process of its own: serve on this socket, and beat."""


class Beats:
    """A worker's end of the pipe: to be called once in `_BEAT_SECONDS` by its event loop.

    Parameters
    ----------
    pipe : Connection
        For writing.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)

    async def __call__(self) -> None:
        """Tell that the event loop turns; stop, as if asked to, once there is nobody to tell."""
        try:
            os.write(self._pipe.fileno(), b".")
        except BlockingIOError:
            pass  # the parent is held up, and will find plenty of beats
        except BrokenPipeError:
            log.error("parent_gone", remedy="this worker stops; start gkc serve again")
            signal.raise_signal(signal.SIGTERM)


def _begin(work: Work, pipe: Connection, listener: socket.socket) -> None:
    """Begin a worker's life: Ctrl-C is its parent's business until the server handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    work(Beats(pipe), listener)


class _Worker:
    """One process, and when it was last heard of."""

    def __init__(self, work: Work, listener: socket.socket) -> None:
        self._deadline: float | None = None
        self.beats, theirs = _spawn.Pipe(duplex=False)
        self.process = _spawn.Process(target=_begin, args=(work, theirs, listener))
        # The new process begins with what is blocked here: Ctrl-C reaches all processes of a
        # terminal, and one that is still importing would tell of it by a traceback.
        resource_tracker.ensure_running()  # the first start would begin it, which unblocks
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()  # so that the pipe ends with the worker

    @property
    def serves(self) -> bool:
        return self._deadline is not None

    @property
    def is_overdue(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def hear(self) -> None:
        """Take the beats that have come."""
        if os.read(self.beats.fileno(), 4096):
            self._deadline = time.monotonic() + _STUCK_SECONDS

    def stop(self) -> None:
        """Ask it to end after the requests in flight; one that never served has none."""
        if self.serves:
            self.process.terminate()
            self._deadline = time.monotonic() + _LAST_SECONDS
        else:
            self.process.kill()

    def bury(self) -> None:
        """Wait for its end, and let go of what it held."""
        self.process.join(_LAST_SECONDS)
        self.process.kill()
        self.process.join()
        self.beats.close()


class Workers:
    """Keeps so many workers running until SIGTERM or SIGINT; from its construction on.

    SIGHUP replaces every worker by a new one, each of which serves before an old one stops.

    Parameters
    ----------
    count : int
    listener : socket.socket
        Shared by all workers.
    """

    def __init__(self, count: int, listener: socket.socket) -> None:
        self._count = count
        self._listener = listener
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
            while not self._is_stopping:
                self._fill_up(work)
                self._turn()
                if not self._is_announced and all(worker.serves for worker in self._workers):
                    self._is_announced = True
                    announce()
        finally:
            for worker in self._workers:
                worker.stop()
            for worker in self._workers:
                worker.bury()
            signal.set_wakeup_fd(-1)
            self._signals.close()
            self._wakeup.close()

    def _fill_up(self, work: Work) -> None:
        """Start the workers that are missing; one more while others are to be replaced."""
        while len(self._workers) < self._count + bool(self._outdated):
            self._workers.append(_Worker(work, self._listener))

    def _turn(self) -> None:
        """Wait for the next thing to happen, and act on it."""
        beats = [worker.beats for worker in self._workers]
        ends = [worker.process.sentinel for worker in self._workers]
        ready = wait([self._signals, *beats, *ends], _BEAT_SECONDS)
        if self._signals in ready:
            self._obey(set(self._signals.recv(4096)))
        for worker in list(self._workers):
            if worker.process.sentinel in ready:
                self._take_leave(worker)
            elif worker.beats in ready:
                self._hear(worker)
            elif worker.is_overdue:
                log.error("worker_stuck", pid=worker.process.pid)
                worker.process.kill()

    def _obey(self, numbers: set[int]) -> None:
        if numbers & set(STOPPING):
            self._is_stopping = True
        elif signal.SIGHUP in numbers:
            self._outdated = list(self._workers)

    def _hear(self, worker: _Worker) -> None:
        is_new = not worker.serves
        worker.hear()
        if is_new and self._outdated and worker not in self._outdated:
            self._outdated.pop(0).stop()

    def _take_leave(self, worker: _Worker) -> None:
        """Forget a worker that ended."""
        self._workers.remove(worker)
        worker.bury()
        status = worker.process.exitcode
        if worker in self._outdated:
            self._outdated.remove(worker)
        elif not worker.serves and status is not None and status >= 0:
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
