"""Stages that overlap: an iterator run ahead in its own thread, a bounded number of steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Failure:
    error: BaseException


class _End:
    """What the thread puts last."""


class Ahead(Generic[T]):
    """Runs an iterable in a thread, at most ``depth`` items ahead of whoever iterates over this.

    What the iterable raises is raised to the consumer. Leaving the block stops the thread after the
    item that it is at and waits for it; close consumers before what they consume.

    Parameters
    ----------
    source : iterable
    depth : int
        How many finished items may wait.
    """

    def __init__(self, source: Iterable[T], depth: int) -> None:
        self._source = source
        self._queue: queue.Queue[T | _Failure | _End] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread and wait for it."""
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        """Yield the items in order."""
        while True:
            item = self._take()
            if isinstance(item, _End):
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item

    def _take(self) -> T | _Failure | _End:
        while not self._stopped.is_set():
            try:
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                # Nothing yet: look again whether we are stopped.
                continue
        return _End()

    def _run(self) -> None:
        try:
            for item in self._source:
                if not self._put(item):
                    return
        except BaseException as exc:  # noqa: BLE001 - carried over to the consumer's thread
            self._put(_Failure(exc))
        else:
            self._put(_End())

    def _put(self, item: T | _Failure | _End) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                # The consumer is slower: look again whether it has stopped us.
                continue
            return True
        return False
