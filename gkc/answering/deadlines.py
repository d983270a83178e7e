"""Deadlines of requests: once its time is over, what is still done for a request is dropped.

One timer for all of them: one a request, set and cancelled again, costs five times as much.
"""

from __future__ import annotations

import asyncio
import math
from functools import cached_property
from time import monotonic
from types import TracebackType
from typing import Any, Final

from gkc.errors import DeadlineExceededError

_PAUSE_SECONDS: Final = 0.005
"""Between two looks at all deadlines, at least."""


class Deadlines:
    """Those of all requests that are under way on one event loop.

    Parameters
    ----------
    most_seconds : float
        What a request may take, whatever its caller allows.
    most_by : str
        The setting that says so.
    """

    def __init__(self, most_seconds: float, most_by: str) -> None:
        self._most_seconds = most_seconds
        self._most_by = most_by
        self._under_way: set[Deadline] = set()
        self._look_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Their event loop; to ask for it each time would be a system call."""
        return asyncio.get_running_loop()

    def within(self, began: float, seconds: float = math.inf, by: str = "") -> Deadline:
        """Return a request's deadline, for the task that works for it to enter.

        Parameters
        ----------
        began : float
            When the request came, on the monotonic clock.
        seconds : float
            What its caller allows.
        by : str
            What the caller says so by.
        """
        if seconds >= self._most_seconds:
            seconds, by = self._most_seconds, self._most_by
        return Deadline(self, began + seconds, seconds, by)

    def watch(self, deadline: Deadline) -> None:
        """End a deadline's task when it has passed, unless it is forgotten first."""
        self._under_way.add(deadline)
        if deadline.at < self._look_at:
            self._look_by(deadline.at)

    def forget(self, deadline: Deadline) -> None:
        """Watch a deadline no longer."""
        self._under_way.discard(deadline)

    def _look_by(self, moment: float) -> None:
        self._look_at = moment
        if self._timer is not None:
            self._timer.cancel()
        pause = max(_PAUSE_SECONDS, moment - monotonic())
        self._timer = self.loop.call_later(pause, self._look)

    def _look(self) -> None:
        now = monotonic()
        for deadline in [each for each in self._under_way if each.at <= now]:
            self._under_way.discard(deadline)
            deadline.cancel()
        self._look_at, self._timer = math.inf, None
        if self._under_way:
            self._look_by(min(each.at for each in self._under_way))


class Deadline:
    """A block of work that is cancelled when its time is over; then it raises why.

    Also work that ends by itself after its time counts as late.

    Parameters
    ----------
    deadlines : Deadlines
    at : float
        On the monotonic clock.
    seconds : float
        How long it was from the beginning.
    by : str
        What allows so much.

    Raises
    ------
    DeadlineExceededError
        If the time is over when the block begins, or before it ends.
    """

    __slots__ = ("_by", "_cancelling", "_deadlines", "_has_passed", "_seconds", "_task", "at")

    def __init__(self, deadlines: Deadlines, at: float, seconds: float, by: str) -> None:
        self.at = at
        self._deadlines = deadlines
        self._seconds = seconds
        self._by = by
        self._has_passed = False

    def __enter__(self) -> None:
        """Begin."""
        if monotonic() >= self.at:
            raise self._error()
        task: asyncio.Task[Any] | None = asyncio.current_task(self._deadlines.loop)
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._deadlines.watch(self)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        """End."""
        self._deadlines.forget(self)
        if self._has_passed:
            # Others may have cancelled the task, too: then it ends as they want it.
            is_late = self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
        else:
            is_late = kind is None and monotonic() >= self.at
        if is_late:
            raise self._error() from exc

    def cancel(self) -> None:
        """Have the block cancelled, since its time is over."""
        self._has_passed = True
        self._task.cancel()

    def _error(self) -> DeadlineExceededError:
        return DeadlineExceededError("the service", self._seconds, allowed_by=self._by)
