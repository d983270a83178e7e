"""HTTP/1.1 on a socket, without waiting: each step says what the next one waits for.

One exchange is a generator that yields `READ` or `WRITE` whenever it cannot go on, and returns the
answer. Whoever runs it waits, by ``poll`` or by an event loop, and holds the deadline: so a service
that sends a byte a second is cut off in time, which no timeout of single reads does.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import httptools
import numpy as np
from msgspec import Struct

from gkc.arrays import U8
from gkc.client.service_address import Address
from gkc.errors import ServiceError

READ: Final = select.POLLIN
WRITE: Final = select.POLLOUT

_HEAD_BYTES: Final = 16 << 10
"""The most of a head. More of the first read would be copied; the rest goes where it stays."""
_MOST_BODY_BYTES: Final = 1 << 31
_HTTP: Final = b"HTTP/1."
_HEAD_END: Final = b"\r\n\r\n"
_FIRST_STATUS: Final = 100
_FIRST_FINAL_STATUS: Final = 200
_LONGEST_POLL_SECONDS: Final = 86_400.0
_MOST_INTERIM_HEADS: Final = 100
_MOST_READS_AT_ONCE: Final = 16
"""Then whoever runs the exchange looks at the clock, and at others, even if more is there."""

_WAITS: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

T = TypeVar("T")
Steps = Generator[int, None, T]
"""Yields what it waits for; returns a T."""


class Response(Struct, frozen=True):
    """An answer as it came.

    Attributes
    ----------
    address : Address
        Who answered.
    status : int
    headers : dict of bytes to bytes
        By lower-case names.
    body : ndarray, shape (bytes,), uint8
        Whole, and of nobody else.
    """

    address: Address
    status: int
    headers: dict[bytes, bytes]
    body: U8

    @property
    def content_type(self) -> str:
        """The media type, without parameters."""
        named = self.headers.get(b"content-type", b"").decode("latin-1")
        return named.partition(";")[0].strip().lower()


class Connection:
    """A connection to one address, for one exchange after the other.

    Parameters
    ----------
    address : Address
    tls : SSLContext, optional
        Needed by addresses of ``https``.

    Attributes
    ----------
    has_answered : bool
        Whether a byte of the present answer has come.
    stays_open : bool
        Whether another exchange may follow.
    watched : int
        What an event loop watches the socket for, if anything.
    unwatch : callable, optional
        Ends that; called before the socket is closed.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        self.address = address
        self.has_answered = False
        self.stays_open = False
        self.watched = 0
        self.unwatch: Callable[[], None] | None = None
        self._tls = tls
        self._socket: socket.socket | None = None
        self._scratch = bytearray(_HEAD_BYTES)
        self._reads_at_once = 0

    @property
    def opened(self) -> socket.socket:
        """The open socket."""
        assert self._socket is not None
        return self._socket

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._socket is not None

    def is_quiet(self) -> bool:
        """Tell whether an idle connection has nothing to read: neither an end nor a surplus.

        The surplus of one answer would be taken for the next. An event loop that watches it has
        perhaps not looked since it came, and TLS may hold it where no poll sees it.
        """
        return not self._is_buffered() and not wait_for([(self, READ)], 0.0)

    def close(self) -> None:
        """Close the socket, if there is one; nothing is said that a parent's copy would feel."""
        if self._socket is None:
            return
        if self.unwatch is not None:
            self.unwatch()
        self._socket.close()
        self._socket = None

    def exchange(self, request: bytes) -> Steps[Response]:
        """Send a request and return its answer.

        Raises
        ------
        OSError
            If the network fails, or the service closes before any byte of its answer.
        ServiceError
            If what comes is no whole answer of HTTP/1.1.
        """
        self.has_answered = False
        if self._socket is None:
            yield from self._connect()
        yield from self._send(request)
        return (yield from self._receive())

    def _connect(self) -> Steps[None]:
        failure = self.address.failure or OSError(errno.EHOSTUNREACH, "has no address")
        for family, kind, protocol, _, place in self.address.candidates:
            try:
                yield from self._connect_to(socket.socket(family, kind, protocol), place)
            except OSError as error:
                self.close()
                failure = error
            else:
                return
        raise failure

    def _connect_to(self, fresh: socket.socket, place: tuple[Any, ...]) -> Steps[None]:
        self._socket = fresh
        fresh.setblocking(False)
        code = fresh.connect_ex(place)
        if code == errno.EINPROGRESS:
            yield WRITE
            code = fresh.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            wrapped = self._tls.wrap_socket(
                fresh, server_hostname=self.address.host, do_handshake_on_connect=False
            )
            self._socket = wrapped
            yield from self._shake_hands(wrapped)

    def _shake_hands(self, wrapped: ssl.SSLSocket) -> Steps[None]:
        while True:
            try:
                return wrapped.do_handshake()
            except _WAITS as error:
                yield _awaited(error, READ)

    def _send(self, request: bytes) -> Steps[None]:
        rest = memoryview(request)
        while rest:
            try:
                sent = self.opened.send(rest)
            except _WAITS as error:
                yield _awaited(error, WRITE)
            else:
                rest = rest[sent:]

    def _receive(self) -> Steps[Response]:
        if self._tls is None:  # it has hardly come yet: no need to try
            yield READ
        head, start, end = yield from self._receive_head()
        beginning = memoryview(self._scratch)[start:end]
        if head.length is None:
            body = yield from self._receive_open_ended(head, beginning)
        else:
            body = yield from self._receive_sized(head.length, beginning)
        return Response(self.address, head.status, head.headers, body)

    def _receive_head(self) -> Steps[tuple[_Head, int, int]]:
        """Return the head, and where in the scratch buffer the beginning of the body is."""
        scratch, filled, heads = memoryview(self._scratch), 0, 0
        while True:
            end = self._scratch.find(_HEAD_END, 0, filled)
            if end < 0:
                if not _HTTP.startswith(self._scratch[: min(filled, len(_HTTP))]):
                    raise self._lie("does not speak HTTP/1.1")
                if filled == len(scratch):
                    raise self._lie(f"sends a head of more than {_HEAD_BYTES} bytes")
                filled += yield from self._read(scratch[filled:])
                continue
            end += len(_HEAD_END)
            head = self._parse(scratch[:end])
            if head.status >= _FIRST_FINAL_STATUS:
                return head, end, filled
            heads += 1
            if heads > _MOST_INTERIM_HEADS:
                raise self._lie(f"sends more than {_MOST_INTERIM_HEADS} heads before its answer")
            scratch[: filled - end] = bytes(scratch[end:filled])
            filled -= end

    def _parse(self, raw: memoryview) -> _Head:
        head = _Head()
        try:
            head.parser.feed_data(raw)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise self._not_http(error) from error
        head.status = head.parser.get_status_code()
        if not head.is_whole or head.status < _FIRST_STATUS:
            raise self._lie("does not speak HTTP/1.1")
        self.stays_open = head.parser.should_keep_alive()
        length = head.headers.get(b"content-length")
        if head.is_over:  # of 204 and 304 comes no more, whatever their length says
            head.length = 0
        elif length is not None and b"transfer-encoding" not in head.headers:
            head.length = int(length)
            if head.length > _MOST_BODY_BYTES:
                raise self._lie(f"announces a body of {head.length} bytes")
        return head

    def _receive_sized(self, length: int, beginning: memoryview) -> Steps[U8]:
        """Read a body straight into memory of its size."""
        if len(beginning) > length:
            raise self._lie(f"sends more than the {length} bytes that it announced")
        body = np.empty(length, dtype=np.uint8)
        view, filled = body.data, len(beginning)
        view[:filled] = beginning
        while filled < length:
            count = yield from self._read(view[filled:], f"after {filled} of {length} bytes")
            filled += count
        return body

    def _receive_open_ended(self, head: _Head, beginning: memoryview) -> Steps[U8]:
        """Read a body in chunks, or one that the end of the connection ends."""
        pieces: bytes | memoryview = beginning
        try:
            while not head.is_over:
                head.parser.feed_data(pieces)
                if head.is_over:
                    break
                if head.size > _MOST_BODY_BYTES:
                    raise self._lie(f"sends a body of more than {_MOST_BODY_BYTES} bytes")
                count = yield from self._read_any(memoryview(self._scratch))
                if not count:
                    if b"transfer-encoding" in head.headers:
                        raise self._lie("closed the connection amid an answer in chunks")
                    break
                pieces = memoryview(self._scratch)[:count]
        except httptools.HttpParserError as error:
            raise self._not_http(error) from error
        return np.frombuffer(bytearray(b"".join(head.pieces)), dtype=np.uint8)

    def _read(self, into: memoryview, when: str = "within the head") -> Steps[int]:
        count = yield from self._read_any(into)
        if not count:
            if self.has_answered:
                raise self._lie(f"closed the connection {when} of its answer")
            raise ConnectionResetError("closed the connection before it answered")
        self.has_answered = True
        return count

    def _read_any(self, into: memoryview) -> Steps[int]:
        """Return how many bytes came; 0 at the end."""
        # No poll sees what TLS holds; it is a record at most.
        if self._reads_at_once >= _MOST_READS_AT_ONCE and not self._is_buffered():
            self._reads_at_once = 0
            yield READ
        self._reads_at_once += 1
        while True:
            try:
                return self.opened.recv_into(into)
            except _WAITS as error:
                self._reads_at_once = 0
                yield _awaited(error, READ)

    def _is_buffered(self) -> bool:
        """Tell whether TLS holds bytes that it has taken off the network already."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _not_http(self, error: Exception) -> ServiceError:
        cause = error.__context__
        if cause is not None and not isinstance(cause, Exception):
            raise cause  # the caller was interrupted amid a callback of the parser
        return self._lie(f"does not speak HTTP/1.1: {error}")

    def _lie(self, reason: str) -> ServiceError:
        self.stays_open = False
        return ServiceError(self.address.url, reason)


class _Head:
    """What the parser tells of an answer; of its body only where that is not read past it."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.length: int | None = None
        self.is_whole = self.is_over = False
        self.pieces: list[bytes] = []
        self.size = 0

    def on_message_begin(self) -> None:
        if self.is_over:
            raise ValueError("something follows the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.is_whole = True

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)

    def on_message_complete(self) -> None:
        self.is_over = True


def wait_for(awaited: list[tuple[Connection, int]], timeout_seconds: float) -> list[Connection]:
    """Wait until a connection has what it waits for; return those that do.

    A day at most, since a poll takes no more than 24: a longer wait may end with none.
    """
    poller = select.poll()
    by_descriptor = {}
    for connection, event in awaited:
        descriptor = connection.opened.fileno()
        by_descriptor[descriptor] = connection
        poller.register(descriptor, event)
    ready = poller.poll(min(max(0.0, timeout_seconds), _LONGEST_POLL_SECONDS) * 1000)
    return [by_descriptor[descriptor] for descriptor, _ in ready]


def _awaited(error: OSError, otherwise: int) -> int:
    """Return what a socket waits for that says it has to wait."""
    if isinstance(error, ssl.SSLWantReadError):
        return READ
    return WRITE if isinstance(error, ssl.SSLWantWriteError) else otherwise
