"""Which requests are begun, which wait and which are refused at once, so that nobody waits long.

What has come by the time the event loop looks has waited for no longer than the loop's last turn
took. So it is enough to bound the work that one turn begins. Whatever does not fit waits for a
later turn, or is refused if somebody was a moment ago, while it is still cheap; and whoever is
refused in a turn that refuses very many is not read for a moment. A request that waits for a silent
store takes no time of the loop and is no overload; how many of those there may be has a bound of
its own. Reasons and figures: `docs/decisions/0025-overload.md`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from time import monotonic, thread_time
from typing import Final

from gkc.errors import OverloadedError

TURN_SECONDS: Final = 0.00125
"""Of work that a turn may begin."""
PATIENCE_SECONDS: Final = 0.1
"""Of the loop's work that a request may wait for: a burst of as much is no overload."""
_IN_ORDER_SECONDS: Final = 0.01
"""While the first has waited for less, it is the next; later the last is, which can be in time."""
_REFUSING_SECONDS: Final = 1.0
"""For so long after a refusal few may wait, and briefly: those who were refused come again."""
_TURNS_AHEAD: Final = 2
"""Of work that may wait meanwhile: what comes at random is not even."""
ALWAYS_BEGUN: Final = 16
"""So few requests under way are no overload, whatever each takes, unless very many are refused."""
FREE_REFUSALS: Final = 30
"""Of one turn: they take about as long as its work."""
MOST_UNDER_WAY: Final = 2000
LIGHT_BYTES: Final = 1024
"""Of a body: requests so small have a lane of their own, that heavy ones do not fill."""
LIGHT_ROOM: Final = 4
"""So many of them a turn begins at least, however long others take."""
_BASE_BYTES: Final = 2000
"""A request without any rows takes as long as one does for so many bytes of its body."""
_LIGHT_ROOM_BYTES: Final = LIGHT_ROOM * (_BASE_BYTES + LIGHT_BYTES)
_REFUSED_BYTES: Final = 700
"""The same of one that is refused: else what refusals take would make the others seem dear."""
_FIRST_SECONDS_OF_BYTE: Final = 1e-7
_LEAST_SECONDS_OF_BYTE: Final = 2e-8
"""Bodies that are announced and never sent take no time: they may not say that others take none."""
_STEP: Final = 1.02
"""How much one turn changes what is expected of the next."""
LARGE_ANSWER_BYTES: Final = 1 << 20
MOST_ANSWER_BYTES: Final = 128 << 20
"""Of large answers together; a single one may be larger."""


class Verdict(Enum):
    """What becomes of a request."""

    BEGIN = auto()
    WAIT = auto()
    """Until it is its turn: `Admission.turn`, which is to be called at once."""
    REFUSE = auto()


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request that waits."""

    cost: int
    since: float
    """Of the CPU time of the loop's thread."""
    turn: asyncio.Future[bool]


class _Lane:
    """Requests of one kind: what a turn has begun of them, and those who wait."""

    def __init__(self, least_bytes: int) -> None:
        self._least_bytes = least_bytes
        self._most_bytes = self._used_bytes = 0.0
        self._began = 0.0
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0

    def begin_turn(self, now: float, most_bytes: float) -> None:
        """Begin a turn that may begin so much."""
        self._began = now
        self._most_bytes = max(most_bytes, self._least_bytes)
        self._used_bytes = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    def is_due(self, cost: int) -> bool:
        """Tell whether a request fits into this turn, and nobody is to begin before it."""
        return self._fits(cost) and not self._is_in_order()

    def has_room(self, cost: int) -> bool:
        """Tell whether a request may wait after a refusal."""
        return self.is_empty or self._waiting_bytes + cost <= _TURNS_AHEAD * self._most_bytes

    def use(self, cost: int) -> None:
        """Count what is begun in this turn; never more than it may, so that the next one fits."""
        self._used_bytes = min(self._used_bytes + cost, self._most_bytes)

    def wait(self, cost: int, turn: asyncio.Future[bool]) -> None:
        """Let a request wait."""
        self._waiting.append(_Waiting(cost, self._began, turn))
        self._waiting_bytes += cost

    def begin_waiting(self) -> int:
        """Begin those who wait and fit into this turn; return what they cost."""
        begun = 0
        while self._waiting:
            place = 0 if self._is_in_order() else -1
            if not self._fits(self._waiting[place].cost):
                break
            waiting = self._take(place)
            if not waiting.turn.done():  # else nobody waits for its answer any more
                self.use(waiting.cost)
                begun += waiting.cost
                waiting.turn.set_result(True)
        return begun

    def refuse_impatient(self, patience: float, most: int) -> int:
        """Refuse those who have waited for longer, but not more than so many; return how many."""
        oldest = self._began - patience
        refused = 0
        while self._waiting and self._waiting[0].since < oldest and refused < most:
            turn = self._take(0).turn
            if not turn.done():
                turn.set_result(False)
                refused += 1
        return refused

    def _fits(self, cost: int) -> bool:
        """Tell whether this turn has room; one request always fits."""
        return not self._used_bytes or self._used_bytes + cost <= self._most_bytes

    def _is_in_order(self) -> bool:
        """Tell whether somebody waits, and the first of them is the next."""
        return bool(self._waiting) and self._began - self._waiting[0].since < _IN_ORDER_SECONDS

    def _take(self, place: int) -> _Waiting:
        """Take the first (0) or last (-1) out of those who wait."""
        waiting = self._waiting.pop() if place else self._waiting.popleft()
        self._waiting_bytes -= waiting.cost
        return waiting


class Admission:
    """Decides for the requests that come in one event loop.

    A door asks `judge` when a request is there, before it is decoded, and has memory held for its
    answer before that is laid.

    Parameters
    ----------
    most_under_way : int
        How many requests may have begun and not ended.
    """

    def __init__(self, most_under_way: int = MOST_UNDER_WAY) -> None:
        self._most_under_way = most_under_way
        self._seconds_of_byte = _FIRST_SECONDS_OF_BYTE
        self._is_collecting = False
        self._is_calm = True
        self._light, self._heavy = _Lane(_LIGHT_ROOM_BYTES), _Lane(0)
        self._lanes = self._light, self._heavy
        self._turn_began = 0.0
        self._begun_bytes = 0.0
        self._refused = 0
        self._always_begun = ALWAYS_BEGUN
        self._refused_at = self._flooded_at = -math.inf
        self.held_bytes = 0
        """Of large answers under way, with what they are made from."""

    def judge(self, body_bytes: int, under_way: int, *, is_next: bool = False) -> Verdict:
        """Decide what becomes of a request.

        Parameters
        ----------
        body_bytes : int
            Its size, as far as it is known.
        under_way : int
            How many have begun, or wait, and not ended.
        is_next : bool
            Whether it was there behind another one that has just been answered: it comes out of
            the turn that is worked off.
        """
        if not (self._is_collecting or is_next):
            self._begin_turn()
        if under_way >= self._most_under_way:
            self._refused += 1
            return Verdict.REFUSE
        lane, cost = self._lane(body_bytes), _BASE_BYTES + body_bytes
        if under_way < self._always_begun or lane.is_due(cost):
            lane.use(cost)
            self._begun_bytes += cost
            return Verdict.BEGIN
        if self._is_calm or lane.has_room(cost):
            return Verdict.WAIT
        self._refused += 1
        return Verdict.REFUSE

    def turn(self, body_bytes: int) -> asyncio.Future[bool]:
        """Let a request wait; tell in the end whether it may begin, or has waited for too long."""
        turn: asyncio.Future[bool] = self._loop.create_future()
        self._lane(body_bytes).wait(_BASE_BYTES + body_bytes, turn)
        if not self._is_collecting:
            self._loop.call_soon(self._go_on)
        return turn

    @property
    def is_flooded(self) -> bool:
        """Whether so much was refused in this turn that refusals alone would fill the loop."""
        return self._refused > FREE_REFUSALS

    def hold(self, answer_bytes: int) -> int:
        """Hold memory for a large answer; return how much to `free` once that has left.

        A single one always fits.

        Raises
        ------
        OverloadedError
            If it does not fit beside the others.
        """
        if answer_bytes < LARGE_ANSWER_BYTES:
            return 0
        if self.held_bytes and self.held_bytes + answer_bytes > MOST_ANSWER_BYTES:
            raise OverloadedError
        self.held_bytes += answer_bytes
        return answer_bytes

    def free(self, answer_bytes: int) -> None:
        """Hold so much less."""
        self.held_bytes -= answer_bytes

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop; to ask for it each time would be a system call."""
        return asyncio.get_running_loop()

    def _begin_turn(self) -> None:
        """Begin to collect what came at once; it is worked off after all of it was seen.

        CPU time is what counts, so that neither idle nor stolen time does; from one turn to the
        next, so that answers do which end between them.
        """
        now = thread_time()
        if self._begun_bytes:
            self._learn(now)
        self._turn_began = now
        patience = PATIENCE_SECONDS if self._is_calm else _IN_ORDER_SECONDS
        for lane in self._lanes:
            lane.begin_turn(now, TURN_SECONDS / self._seconds_of_byte)
            self._refused += lane.refuse_impatient(patience, FREE_REFUSALS)
        moment = monotonic()
        if self._refused:
            self._refused_at = moment
            if self._refused > ALWAYS_BEGUN:
                self._flooded_at = moment
        self._is_calm = moment - self._refused_at > _REFUSING_SECONDS
        is_flood = moment - self._flooded_at <= _REFUSING_SECONDS
        self._always_begun = 1 if is_flood else ALWAYS_BEGUN
        self._begun_bytes = 0.0
        self._refused = 0
        self._is_collecting = True
        self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Begin to work off what was collected: this is the first thing after it."""
        self._is_collecting = False
        for lane in self._lanes:
            self._begun_bytes += lane.begin_waiting()
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Begin a turn for those who wait, if nobody who came has."""
        if not (self._is_collecting or (self._light.is_empty and self._heavy.is_empty)):
            self._begin_turn()

    def _lane(self, body_bytes: int) -> _Lane:
        return self._light if body_bytes <= LIGHT_BYTES else self._heavy

    def _learn(self, now: float) -> None:
        """Follow the median of what turns take: the rare long pause does not matter."""
        work_bytes = self._begun_bytes + self._refused * _REFUSED_BYTES
        took_longer = now - self._turn_began > work_bytes * self._seconds_of_byte
        followed = self._seconds_of_byte * (_STEP if took_longer else 1 / _STEP)
        self._seconds_of_byte = max(followed, _LEAST_SECONDS_OF_BYTE)
