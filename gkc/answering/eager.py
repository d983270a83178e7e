"""Work that waits for something while something else is done, without a task of its own."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")


class EagerCoroutine(Generic[ResultT]):
    """A coroutine that has run up to its first pause; await this for the rest.

    What it waits for goes on meanwhile. Unlike a task, the rest runs where it is awaited, which
    takes no turns of the event loop, and whatever the coroutine raises comes there.

    Parameters
    ----------
    work : coroutine
        The task that begins it must be the one that awaits it, or drops it.

    Attributes
    ----------
    is_done : bool
        Whether it ran to its end without a pause.
    """

    __slots__ = ("_raised", "_result", "_waits_for", "_work", "is_done")

    def __init__(self, work: Coroutine[Any, None, ResultT]) -> None:
        self._work = work
        self._raised: Exception | None = None
        self._waits_for: Any = None
        self.is_done = True
        try:
            self._waits_for = work.send(None)
            self.is_done = False
        except StopIteration as done:
            self._result: ResultT = done.value
        except Exception as exc:  # noqa: BLE001  # raised where it is awaited
            self._raised = exc

    def drop(self) -> None:
        """End the coroutine if nobody awaited its end."""
        if self._waits_for is not None:
            self._waits_for.cancel()  # of a failure that nobody takes the loop would tell
        self._work.close()

    def __await__(self) -> Generator[Any, None, ResultT]:
        """Run the rest; what the task is thrown meanwhile, the coroutine is thrown."""
        if self._raised is not None:
            try:
                raise self._raised
            finally:
                self._raised = None  # its traceback holds this, and whatever its callers hold
        work = self._work
        try:
            while not self.is_done:
                try:
                    yield self._waits_for
                except BaseException as exc:  # noqa: BLE001  # a cancelled task, a timeout
                    self._waits_for = work.throw(exc)
                else:
                    self._waits_for = work.send(None)
        except StopIteration as done:
            self._result = done.value
        return self._result
