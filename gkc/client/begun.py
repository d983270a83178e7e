"""Work on another thread's event loop, waited for by a thread that Ctrl-C may reach."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")


class Begun(Generic[ResultT]):
    """Work that was handed to a running loop.

    No `concurrent.futures.Future`: Ctrl-C in one that waits can leave its lock held, on which the
    loop would hang once the work is done. Here the lock is a bare one, and the loop never waits.

    Parameters
    ----------
    loop : AbstractEventLoop
    work : coroutine
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, ResultT]) -> None:
        self._loop = loop
        self._work = work
        self._is_over = False
        self._unfinished = threading.Lock()
        self._unfinished.acquire()
        loop.call_soon_threadsafe(self._start)

    def result(self, seconds: float | None = None) -> ResultT:
        """Wait for what the work gives or raises, once.

        Raises
        ------
        TimeoutError
            If it took longer than some seconds.
        """
        timeout = -1.0 if seconds is None else min(max(seconds, 0.0), threading.TIMEOUT_MAX)
        if not self._unfinished.acquire(timeout=timeout):
            raise TimeoutError
        return self._task.result()

    def cancel(self) -> None:
        """Cancel the work, unless it is over."""
        if not self._is_over and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[ResultT]) -> None:
        self._is_over = True
        self._unfinished.release()

    def _cancel(self) -> None:
        self._task.cancel()
