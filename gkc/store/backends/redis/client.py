"""Talking to Redis: connections from a URL, a pipeline of writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry

from gkc.errors import CatalogueLostError
from gkc.store.urls import StoreUrl

Command = tuple[bytes | str | int, ...]

WRITE_TIMEOUT_SECONDS: Final = 60.0
"""Longest wait of a command for one answer; a busy server may need long for many writes."""

ANSWERS_AS_BYTES: Final[dict[str, Any]] = {"decode_responses": False, "protocol": 2}
"""Arguments of every connection: what our reading of answers relies on."""

_CONNECTIONS: Final = {
    "redis": Connection,
    "rediss": SSLConnection,
    "unix": UnixDomainSocketConnection,
}
CONNECT_TIMEOUT_SECONDS: Final = 5.0
"""Longest wait for each step until a new connection has had its first answer."""

_WINDOW_BYTES: Final = 16 << 20
_AT_ONCE: Final = 100
_T = TypeVar("_T")
pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub


def connection_pool(where: StoreUrl, timeout_seconds: float) -> ConnectionPool:
    """Return a pool of connections for commands; none is opened yet, and nothing is retried."""
    return ConnectionPool(
        connection_class=_CONNECTIONS[where.scheme],
        **where.arguments,
        **ANSWERS_AS_BYTES,
        socket_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
        redis_connect_func=partial(_shake_hands, timeout_seconds),
    )


def _shake_hands(timeout_seconds: float, connection: Any) -> None:  # noqa: ANN401 - untyped there
    """Log in, and have one answer before the longer timeout of commands begins to hold.

    That round trip is needed, too, to read what TLS sends after its handshake, which the pool would
    take for a left-over answer. The library's own one would swallow why a server lets nobody in.
    """
    connection.on_connect()
    connection.send_command("CLIENT", "SETINFO", "LIB-NAME", "gkc", check_health=False)
    try:
        connection.read_response()
    except redis.ResponseError as exc:
        if str(exc).startswith("DENIED"):
            raise
    connection._sock.settimeout(timeout_seconds)


class WritePipe:
    """Sends commands ahead of their answers over one connection, a bounded number of bytes.

    After an error the connection is closed, and the pipe is of no use any more.

    Parameters
    ----------
    pool : ConnectionPool
        Where its connection comes from, and goes back to.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._connection: Any = None  # the client library's types stop at its pool
        self._sizes: deque[int] = deque()
        self._in_flight_bytes = 0

    def send(self, command: Sequence[bytes | str | int], size_bytes: int) -> None:
        """Send a command, once the answers to enough earlier ones have come.

        Raises
        ------
        redis.RedisError
            If the connection broke, or an earlier command failed.
        """
        if self._connection is None:
            self._connection = self._pool.get_connection()
        while self._sizes and self._in_flight_bytes + size_bytes > _WINDOW_BYTES:
            self._read()
        self._connection.send_command(*command)
        self._sizes.append(size_bytes)
        self._in_flight_bytes += size_bytes

    def drain(self) -> None:
        """Wait for the answers to everything that was sent.

        Raises
        ------
        redis.RedisError
            If the connection broke, or a command failed.
        """
        while self._sizes:
            self._read()

    def close(self) -> None:
        """Give the connection back; calling it again does nothing."""
        if self._connection is None:
            return
        if self._sizes:  # answers are still to come, which nobody will read
            self._connection.disconnect()
        self._pool.release(self._connection)
        self._connection = None

    def _read(self) -> None:
        self._connection.read_response(disable_decoding=True)
        self._in_flight_bytes -= self._sizes.popleft()


class WrongTypeError(redis.ResponseError):
    """A key that gkc reads whole holds another type than a string.

    Parameters
    ----------
    key : str
    kind : object
        The answer to ``TYPE``; an error if the user may not ask that.
    """

    def __init__(self, key: str, kind: object) -> None:
        held = f"a {kind.decode()}" if isinstance(kind, bytes) else "another type"
        self.reason = f"key {key} holds {held}"
        super().__init__(f"{self.reason}, which gkc never stores there")


def get_bytes(client: redis.Redis, key: str) -> bytes | None:
    """Read a key whole, None if it is not there.

    Raises
    ------
    WrongTypeError
        If the key is of another type.
    redis.RedisError
        If the server cannot be asked.
    """
    try:
        value: Any = client.get(key)
    except redis.ResponseError as exc:
        if not is_wrong_type(exc):
            raise
        raise wrong_type(client, key) from exc
    return value if value is None else bytes(value)


def wrong_type(client: redis.Redis, key: str) -> WrongTypeError:
    """Return the error for a key that holds another type than a string."""
    pipeline = client.pipeline(transaction=False)
    pipeline.type(key)
    return WrongTypeError(key, pipeline.execute(raise_on_error=False)[0])


def no_catalogue(store: str, wrong: WrongTypeError) -> CatalogueLostError:
    """Return the error for the key of a catalogue that holds another type."""
    remedy = "delete that key, or choose another GKC_NAMESPACE"
    return CatalogueLostError(store, f"{wrong.reason} and no catalogue", remedy)


def in_batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield so many at a time that the server's other clients have their turn between."""
    rest = iter(items)
    while batch := list(islice(rest, _AT_ONCE)):
        yield batch


def is_wrong_type(answer: redis.RedisError) -> bool:
    """Tell whether a command met a key of another type."""
    return "WRONGTYPE" in str(answer)  # in a script's error it is not the first word
