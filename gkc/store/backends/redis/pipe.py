"""Reads for an event loop: every caller's commands go over one connection, in one stream.

The client library connects: host or socket, TLS, credentials, database. Then its connection is
handed to a protocol of ours, which writes what one tick of the loop asks for in one piece and hands
each caller the answers to its own commands, once it is sure that they are: no task, lock or timer
for a caller. A connection whose answers are not those to what was asked is given up, and none of
its callers gets any, nor is asked for again in silence.

No call has a deadline. A connection that owes answers is judged by its silence: one that gives a
byte now and then is alive however long an answer takes, and one that gives none fails with all its
calls. Who does not want to wait any longer cancels its own wait; its answers are skipped when they
come (why: docs/decisions/0026-two-lanes-and-silence.md).
"""

from __future__ import annotations

import asyncio
import ctypes
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from random import getrandbits, uniform
from types import NoneType
from typing import Any, Final

import hiredis
import redis
import redis.asyncio as aioredis
from redis._parsers import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gkc.compiled import library
from gkc.rows_library import REPLY
from gkc.store.backends.redis.client import ANSWERS_AS_BYTES, Command, pack
from gkc.store.urls import StoreUrl

_CONNECTIONS: Final[dict[str, type[AbstractConnection]]] = {
    "redis": aioredis.Connection,
    "rediss": aioredis.SSLConnection,
    "unix": aioredis.UnixDomainSocketConnection,
}
_CLOSED: Final = "the reader was closed"
_NOTHING_YET: Final = object()
_MIXED_UP: Final = "its answers are not those to what was asked"
_VALUES: Final = frozenset({bytes, NoneType})
_NO_ARRAYS: Final = frozenset({"GET", "GETRANGE", "EXISTS"})
_MANY_VALUES: Final = 1 << 20
"""More than any answer has of which it is not known how many it will have."""
_SECOND_LOOK_SECONDS: Final = 0.01
_FIRST_BACKOFF_SECONDS: Final = 0.05
_LONGEST_BACKOFF_SECONDS: Final = 0.5
"""No longer than between two looks for a store that is away, so that each of them is one."""


@dataclass(slots=True)
class _Call:
    """Commands of one caller, and who waits for their answers."""

    commands: Sequence[Command]
    future: asyncio.Future[list[Any]]


class _Piece:
    """Calls that leave in one piece, and what has come back; their answers are handed out together.

    Answers have no names: whose one is follows from its place. So a PING with a random token goes
    behind the calls, and they have their answers once it has come back in its own place.
    """

    __slots__ = ("answers", "calls", "count", "packed", "token")

    def __init__(self, calls: list[_Call]) -> None:
        self.calls = calls
        self.token = getrandbits(64).to_bytes(8, "little")
        self.answers: list[Any] = []
        packed = [pack(command) for call in calls for command in call.commands]
        self.count = len(packed) + 1
        packed.append(b"*2\r\n$4\r\nPING\r\n$8\r\n%b\r\n" % self.token)
        self.packed = b"".join(packed)

    def refusal(self) -> redis.RedisError | None:
        """Return the error that the server told, if it did, though other answers never came."""
        return next((a for a in self.answers if isinstance(a, redis.RedisError)), None)

    def require_ours(self) -> None:
        """Check that the answers that came are those to what was asked.

        Raises
        ------
        redis.RedisError
            If they are not, or the server refuses to tell.
        """
        answers = iter(self.answers)
        for call in self.calls:
            if not all(map(_fits, call.commands, answers)):
                raise redis.InvalidResponse(_MIXED_UP)
        token = next(answers)
        if isinstance(token, redis.RedisError):
            raise token
        if token != self.token:
            raise redis.InvalidResponse(_MIXED_UP)

    def hand_out(self) -> None:
        """Give each caller its answers."""
        answers = iter(self.answers)
        for call in self.calls:
            own = list(islice(answers, len(call.commands)))
            if not call.future.done():
                call.future.set_result(own)


def _fits(command: Command, answer: Any) -> bool:  # noqa: ANN401 - whatever a server may say
    """Tell whether an answer is of the type that its command has; an error is one to any."""
    if isinstance(answer, redis.ResponseError):
        return True
    match command[0]:
        case "HMGET":
            is_long_enough = type(answer) is list and len(answer) == len(command) - 2
            return is_long_enough and _VALUES.issuperset(map(type, answer))
        case "HSCAN":
            return type(answer) is list and [*map(type, answer)] == [bytes, list]
        case "GET" | "GETRANGE":
            return type(answer) in _VALUES
        case "EXISTS":
            return type(answer) is int
    return True


def _most_values(command: Command) -> int:
    """Return how many values the arrays of a command's answer may have."""
    if command[0] == "HMGET":
        return len(command) - 2
    return 0 if command[0] in _NO_ARRAYS else _MANY_VALUES


class ReadPipe:
    """Reads of any number of callers over one connection, made at the first of them.

    Parameters
    ----------
    where : StoreUrl
    timeout_ms : int
        Longest silence while an answer is owed, and longest time that connecting takes.
    """

    def __init__(self, where: StoreUrl, timeout_ms: int) -> None:
        self._connection_class = _CONNECTIONS[where.scheme]
        # One limit for all of it takes the place of one for each step of connecting.
        none = {"socket_timeout": None, "socket_connect_timeout": None}
        # Without CLIENT SETINFO a new connection needs no round trip of its own.
        ours = {"retry": Retry(NoBackoff(), 0), "driver_info": None}
        self._options = {**where.arguments, **ANSWERS_AS_BYTES, **none, **ours}
        self._timeout_ms = timeout_ms
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None
        self._backoff = _Backoff()
        self._is_closed = False

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to some commands; an error of one command is its answer.

        What is read is never changed, so that a call whose connection turns out to be closed is
        made once more over a new one.

        Raises
        ------
        redis.RedisError, OSError
            If the server cannot be reached, or is silent for too long.
        """
        link = self._link
        if link is not None and link.is_open:
            try:
                return await link.ask(commands)
            except redis.ConnectionError:
                pass  # the server restarted, or tidied up: a new connection tells
        link = await self._connected()
        return await link.ask(commands)

    async def close(self) -> None:
        """Close the connection; whoever still waits is told that the reader was closed."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._link is not None:
            await self._link.close(redis.ConnectionError(_CLOSED))

    async def _connected(self) -> _Link:
        """Return an open connection; callers that come while it is being made share it."""
        if self._is_closed:
            raise redis.ConnectionError(_CLOSED)
        if self._link is not None and self._link.is_open:
            return self._link
        if self._connecting is None:
            self._backoff.require_over()
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._take)
        try:
            return await asyncio.shield(self._connecting)
        except asyncio.CancelledError:
            if self._is_closed:
                raise redis.ConnectionError(_CLOSED) from None
            raise

    async def _connect(self) -> _Link:
        if self._link is not None:
            await self._link.close(redis.ConnectionError("the connection was lost"))
        connection: AbstractConnection = self._connection_class(**self._options)
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                await connection.connect()  # type: ignore[no-untyped-call]
        except TimeoutError as exc:
            await connection.disconnect(nowait=True)
            raise redis.TimeoutError(self._late()) from exc
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return _Link(connection, self._timeout_ms / 1000, self._late(), self._backoff)

    def _take(self, connecting: asyncio.Task[_Link]) -> None:
        self._connecting = None
        if connecting.cancelled():
            return
        if cause := connecting.exception():
            self._backoff.note(cause)
        else:
            self._link = connecting.result()

    def _late(self) -> str:
        return f"no answer within {self._timeout_ms} ms"


class _Backoff:
    """When to try to connect again: at once after one failure, then less and less often.

    A connection that never had an answer is a failure, too: so it is with a proxy whose server is
    away. The pauses are random, so that a server which comes back does not meet all workers of all
    hosts in the same millisecond. Whoever asks meanwhile is told the last cause.
    """

    def __init__(self) -> None:
        self._longest_pause = 0.0
        self._over_at = 0.0
        self._cause: BaseException | None = None

    def note_answer(self) -> None:
        """Take note that an attempt was of use."""
        self._cause, self._longest_pause = None, 0.0

    def note(self, cause: BaseException) -> None:
        """Take note of an attempt that failed."""
        self._cause = cause
        self._over_at = asyncio.get_running_loop().time() + uniform(0, self._longest_pause)
        longest = max(2 * self._longest_pause, _FIRST_BACKOFF_SECONDS)
        self._longest_pause = min(longest, _LONGEST_BACKOFF_SECONDS)

    def require_over(self) -> None:
        """Raise the last cause if it is too early for another attempt."""
        if self._cause is not None and asyncio.get_running_loop().time() < self._over_at:
            raise self._cause.with_traceback(None)


def _is_about_the_connection(answer: object) -> bool:
    """Tell whether an answer is none to a command: the server refuses us altogether."""
    return isinstance(answer, redis.RedisError) and not isinstance(answer, redis.ResponseError)


def _unasked(answer: object) -> redis.RedisError:
    """Return why a server speaks unasked: it refuses us and says so, or is no Redis server."""
    if isinstance(answer, redis.RedisError):
        return answer
    return redis.InvalidResponse("Protocol error, it answers what nobody asked")


class _Link(asyncio.Protocol):
    """One connection: commands out in order, answers back in the same order.

    Parameters
    ----------
    connection : AbstractConnection
        Connected, with nothing under way; it is the link's from now on.
    silence_seconds : float
        Longest time without any byte while an answer is owed.
    late : str
        What callers are told after it.
    backoff : _Backoff
        Is told whether it was of use.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        silence_seconds: float,
        late: str,
        backoff: _Backoff,
    ) -> None:
        self._connection = connection  # closes the socket when it goes
        self._silence_seconds = silence_seconds
        self._late = late
        self._backoff = backoff
        self._has_answered = False
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader(
            notEnoughData=_NOTHING_YET,
            protocolError=redis.InvalidResponse,
            replyError=BaseParser.parse_error,
        )
        # The reader makes room for what an array announces before anything of it is there.
        self._reply = ctypes.create_string_buffer(struct.calcsize(REPLY))
        self._announced = partial(library().gkc_announced, ctypes.addressof(self._reply))
        self._values_owed = 0
        self._asked: list[_Call] = []
        self._pieces: deque[_Piece] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self.is_open = True
        self._error: redis.RedisError | None = None
        writer: Any = connection._writer  # the library has no way to hand its transport over
        self._transport: asyncio.Transport = writer.transport
        self._transport.set_protocol(self)
        reader: Any = connection._reader
        if early := bytes(reader._buffer):  # it spoke before it was asked anything
            self.data_received(early)
        if self._transport.is_closing():
            self.connection_lost(None)

    def ask(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """Send commands at the end of this tick; the future gets their answers."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._error is not None:
            future.set_exception(self._error)
            return future
        if not self._asked:
            self._loop.call_soon(self._flush)
        self._asked.append(_Call(commands, future))
        return future

    def _flush(self) -> None:
        if not self.is_open:
            return
        calls, self._asked = self._asked, []
        piece = _Piece(calls)
        if not self._pieces:  # from now on something is owed
            self._heard_at = self._loop.time()
        self._pieces.append(piece)
        for call in calls:
            for command in call.commands:
                self._values_owed += _most_values(command)
        self._transport.write(piece.packed)
        if self._watch is None:
            self._watch = self._loop.call_later(self._silence_seconds, self._look)

    def data_received(self, data: bytes) -> None:
        """Hand out the answers of each piece that is complete."""
        self._heard_at = self._loop.time()
        replies = self._replies
        try:
            self._values_owed -= self._announced(data, len(data))
            if self._values_owed < 0:
                raise redis.InvalidResponse(_MIXED_UP)
            replies.feed(data)
            while (answer := replies.gets(False)) is not _NOTHING_YET:
                if not self._pieces:
                    raise _unasked(answer)
                if _is_about_the_connection(answer):
                    raise answer
                piece = self._pieces[0]
                piece.answers.append(answer)
                if len(piece.answers) == piece.count:
                    piece.require_ours()
                    self._pieces.popleft().hand_out()
                    if not self._has_answered:
                        self._has_answered = True
                        self._backoff.note_answer()
        except redis.RedisError as exc:
            self._fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        cause = f"Connection closed by server: {exc}" if exc else "Connection closed by server."
        refusal = self._pieces[0].refusal() if self._pieces else None
        self._fail(refusal or redis.ConnectionError(cause))

    async def close(self, error: redis.RedisError) -> None:
        """Close the connection, and tell whoever still waits why."""
        self._fail(error)
        await self._connection.disconnect(nowait=True)

    def _look(self, silent_since: float | None = None) -> None:
        """Give the connection up if it has been silent for too long: the server hangs, or is gone.

        It is looked at twice: what came while this process was busy is read in between.
        """
        self._watch = None
        if not self._pieces:
            return
        left = self._heard_at + self._silence_seconds - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        elif silent_since != self._heard_at:
            self._watch = self._loop.call_later(_SECOND_LOOK_SECONDS, self._look, self._heard_at)
        else:
            self._fail(redis.TimeoutError(self._late))

    def _fail(self, error: redis.RedisError) -> None:
        if self.is_open and not self._has_answered:
            self._backoff.note(error)
        self.is_open = False
        self._error = self._error or error  # the first one says why
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._transport.abort()
        calls = [*(call for piece in self._pieces for call in piece.calls), *self._asked]
        self._pieces, self._asked = deque(), []
        for call in calls:
            if not call.future.done():
                call.future.set_exception(error)
