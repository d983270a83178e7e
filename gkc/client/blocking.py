"""Coroutines run for callers that block: in their thread, or on another thread's event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    import asyncio

ArgumentsP = ParamSpec("ArgumentsP")
ResultT = TypeVar("ResultT")


def run_here(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine that never pauses: whatever it waits for, blocks."""
    try:
        work.send(None)
    except StopIteration as done:
        result: ResultT = done.value
        return result
    work.close()
    raise RuntimeError("a coroutine paused where nobody would wake it")


def awaitable(
    function: Callable[ArgumentsP, ResultT],
) -> Callable[ArgumentsP, Coroutine[Any, Any, ResultT]]:
    """Return a function that blocks as one whose result is awaited, for `run_here`."""

    async def called(*args: ArgumentsP.args, **kwargs: ArgumentsP.kwargs) -> ResultT:
        return function(*args, **kwargs)

    return called


class LoopTask(Generic[ResultT]):
    """A task of a running loop, waited for by another thread, which Ctrl-C may reach.

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
