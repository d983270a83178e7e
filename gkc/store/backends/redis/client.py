"""Talking to Redis: connections from a URL, pipelines in both directions, errors of ours."""

from __future__ import annotations

import os
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
from redis.retry import Retry

from gkc.errors import StoreUnavailableError, StoreUrlError
from gkc.store.urls import StoreUrl

Command = tuple[bytes | str | int, ...]
_E = TypeVar("_E", bound=BaseException)

WRITE_TIMEOUT_SECONDS: Final = 60.0
"""Longest wait of a command for one answer; a busy server may need long for many writes."""

_CONNECT_TIMEOUT_SECONDS: Final = 5.0
_WINDOW_BYTES: Final = 16 << 20
pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub


@contextmanager
def as_store_errors(store: str) -> Iterator[None]:
    """Turn what the client library raises into StoreUnavailableError, which says what to do."""
    try:
        yield
    except (redis.RedisError, OSError) as exc:
        raise StoreUnavailableError(store, explain(exc, store)) from exc


def explain(exc: BaseException, store: str) -> str:
    """Say what is wrong in words that lead to what to do; never with a secret.

    Parameters
    ----------
    exc : BaseException
        What the client library raised.
    store : str
        The store's URL without secrets.
    """
    text = str(exc).rstrip(".")
    for kind, meaning in _MEANINGS.items():
        if isinstance(exc, kind):
            return meaning.format(text)
    for word, meaning in _MEANINGS_OF_WORDS.items():
        if word in text:
            return meaning.format(text)
    if tls := _find_cause(exc, ssl.SSLError):
        return f"TLS failed ({_why_tls(tls)}); check the port, and ssl_ca_certs in the URL"
    if isinstance(exc, redis.TimeoutError):
        hint = "; does this port speak TLS?" if store.startswith("rediss:") else ""
        return f"it did not answer in time ({text}){hint}"
    if refusal := _find_cause(exc, OSError):
        text = f"cannot connect: {_why_not(refusal)}"
    if store.startswith("redis:") and ("closed" in text or "reset" in text):
        return f"{text}; if the port speaks TLS, use rediss://"
    return text or type(exc).__name__


_MEANINGS: Final[dict[type[BaseException], str]] = {
    AuthenticationError: "it refuses the user name or the password of the URL ({})",
    AuthenticationWrongNumberOfArgsError: "it refuses the user name or the password of the URL",
    NoPermissionError: "its user may not do this ({}); grant it by ACL SETUSER",
    BusyLoadingError: "it is still loading its data from disk; try again shortly",
    OutOfMemoryError: "it is out of memory (OOM); raise its maxmemory or delete versions",
    ReadOnlyError: "it is a read-only replica; name the primary in the URL",
}
_MEANINGS_OF_WORDS: Final = {
    "MISCONF": "it cannot save to its disk and refuses writes (MISCONF); see its log",
    "DB index": "it has no database of the number in the URL",
}


def _find_cause(exc: BaseException | None, kind: type[_E]) -> _E | None:
    while exc is not None:
        if isinstance(exc, kind):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None


def _why_tls(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    return exc.reason or str(exc)


def _why_not(exc: OSError) -> str:
    # An event loop words these itself; the number says it plainly.
    return os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc)


def connection_pool(where: StoreUrl, timeout_seconds: float) -> ConnectionPool:
    """Return a pool of connections for commands; none is opened yet, and nothing is retried.

    Raises
    ------
    StoreUrlError
        If the client library cannot read the URL.
    """
    # Its first round trip, CLIENT SETINFO, is needed: it reads what TLS sends after its handshake,
    # which the pool would take for a left-over answer.
    options = client_options(where, parse_url)
    return ConnectionPool(
        **options,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def client_options(where: StoreUrl, parse: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the arguments of a connection; what our answers rely on cannot be set by the URL."""
    try:
        options: dict[str, Any] = parse(where.url)
    except ValueError as exc:
        raise StoreUrlError(where.shown, str(exc)) from exc
    ours = ("socket_timeout", "socket_connect_timeout", "retry", "retry_on_timeout")
    for name in (*ours, "retry_on_error", "max_connections", "timeout", "legacy_responses"):
        options.pop(name, None)
    return options | {"decode_responses": False, "protocol": 2}


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


def get_bytes(client: redis.Redis, key: str) -> bytes | None:
    """Read a key whole, None if it is not there; a key of another type has no bytes.

    Raises
    ------
    redis.RedisError
        If the server cannot be asked.
    """
    try:
        value: Any = client.get(key)
    except redis.ResponseError as exc:
        if not is_wrong_type(exc):
            raise
        return b""
    return value if value is None else bytes(value)


def is_wrong_type(answer: redis.RedisError) -> bool:
    """Tell whether a command met a key of another type."""
    return str(answer).startswith("WRONGTYPE")
