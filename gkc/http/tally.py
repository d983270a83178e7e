"""What requests leave to be counted, added to the metrics together, a moment later.

Each operation of prometheus_client takes a lock and perhaps writes to a shared file: a dozen for
each request are a tenth of its time. A batch needs as many for all of its requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import prometheus_client
from msgspec import Struct

from gkc.arrays import I64
from gkc.knowledge import Part

FLUSH_SECONDS: Final = 0.01
"""How late a metric may be: some dozens of requests of a busy worker."""


class AnsweredRows(Struct, frozen=True):
    """What one answer is counted by.

    Attributes
    ----------
    route : str
    rows : int
        Asked for.
    parts : tuple of str
        Asked for.
    counts : mapping of str to ndarray, shape (12,), int64
        For each version, how many of its rows had each status, part by part.
    """

    route: str
    rows: int
    parts: tuple[Part, ...]
    counts: Mapping[str, I64]


class Tally:
    """Collects what happened and hands it on; used in one event loop.

    Parameters
    ----------
    add : callable
        Takes the tally when it is time, and empties it.

    Attributes
    ----------
    under_way : int
        Requests being answered.
    requests : list of (str, int, float)
        Route, status and seconds of each that ended.
    answers : list of AnsweredRows
    reads : list of (str, float)
        Operation and seconds of each read of the store.
    overloaded : list of str
        Path of each request that was not begun: it takes no time that would be worth a bucket.
    """

    def __init__(self, add: Callable[[], None]) -> None:
        self._add = add
        self._is_due = False
        self.under_way = 0
        self.clear()

    def clear(self) -> None:
        """Start anew; what is under way stays."""
        self.requests: list[tuple[str, int, float]] = []
        self.answers: list[AnsweredRows] = []
        self.reads: list[tuple[str, float]] = []
        self.overloaded: list[str] = []

    def begin(self) -> None:
        """Count a request as under way."""
        self.under_way += 1
        self.schedule()

    def end(self, route: str, code: int, seconds: float) -> None:
        """Count it as answered."""
        self.under_way -= 1
        self.requests.append((route, code, seconds))
        self.schedule()

    def refuse(self, path: str) -> None:
        """Count a request as refused before it began."""
        self.overloaded.append(path)
        self.schedule()

    def schedule(self) -> None:
        """See that what is here is added soon."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._due)

    def _due(self) -> None:
        self._is_due = False
        self._add()


class Histogram(prometheus_client.Histogram):
    """A histogram that takes many values at once."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe each of these amounts."""
        places = np.searchsorted(self._upper_bounds, amounts)
        for place, count in Counter(places.tolist()).items():
            self._buckets[place].inc(count)
        self._sum.inc(sum(amounts))


def by_name(pairs: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    """Put the values of each name together."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(value)
    return values
