"""Reading requests and writing answers on bare ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from gkc.errors import BodyTooLargeError, ClientGoneError
from gkc.http.admission import LARGE_ANSWER_BYTES
from gkc.http.problems import Problem
from gkc.problem import CLIENT_CLOSED_REQUEST, MEDIA_TYPE

_HEADERS: Final = "gkc.headers"
"""Where a request's headers are kept once they are read."""
_COPIED_BYTES: Final = 131_072
"""A body so small is sent in one piece: copying it costs less than sending one more piece."""
WHOLE: Final = "gkc.whole"
"""Where a scope has what writes a whole answer, given status, lines of headers and body, if the
server does; it returns False where the caller takes nothing at the moment."""

BODY: Final = "gkc.body"
"""Where a scope has what gives a whole body, if the server does; None if it is not all here."""

TakeBody = Callable[[], bytes | None]
WriteWhole = Callable[[int, bytes, Sequence[bytes | memoryview]], bool]


class AnswerWatch:
    """Passes an answer on with the request's id, and knows how far it got.

    Parameters
    ----------
    scope : dict
    send : callable
    request_id : str
    """

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._send = send
        self._write_whole: WriteWhole | None = scope.get(WHOLE)
        self._request_id = b"x-request-id", request_id.encode("latin-1")
        self.status = CLIENT_CLOSED_REQUEST
        self.is_started = False
        self.is_finished = False

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        kind = message["type"]
        if kind == "http.response.body":
            self.is_finished = not message.get("more_body", False)
        elif kind == "http.response.start":
            self._begin(message["status"])
            message = {**message, "headers": [*message.get("headers", ()), self._request_id]}
        await self._send(message)

    def write_whole(self, status: int, head: bytes, pieces: Sequence[bytes | memoryview]) -> bool:
        """Write a whole answer, if the server can at once; tell whether it did."""
        if self._write_whole is None:
            return False
        if not self._write_whole(status, head + b"%b: %b\r\n" % self._request_id, pieces):
            return False
        self._begin(status)
        self.is_finished = True
        return True

    def _begin(self, status: int) -> None:
        self.status = status
        self.is_started = True


def headers(scope: Scope) -> dict[bytes, bytes]:
    """Return a request's headers by their names in small letters, repetitions joined by commas."""
    joined: dict[bytes, bytes] | None = scope.get(_HEADERS)
    if joined is not None:
        return joined
    joined = scope[_HEADERS] = {}
    for name, value in scope["headers"]:
        joined[name] = joined[name] + b"," + value if name in joined else value
    return joined


def size_of(declared: bytes) -> int:
    """Return what a header ``content-length`` says, 0 if there is none.

    The parser lets only digits through, and no number beyond 64 bits, but any number of zeros
    before it: of more than 4300 digits `int` would raise.
    """
    return int(declared.lstrip(b"0") or b"0")


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Read a request's whole body.

    Parameters
    ----------
    scope : dict
    receive : callable
    max_bytes : int

    Raises
    ------
    BodyTooLargeError
        If it has more than ``max_bytes`` bytes; as soon as that is known.
    ClientGoneError
        If the caller hangs up first.
    """
    if size_of(headers(scope).get(b"content-length", b"")) > max_bytes:
        raise BodyTooLargeError(max_bytes)
    take_body: TakeBody | None = scope.get(BODY)
    if take_body is not None and (whole := take_body()) is not None:
        if len(whole) > max_bytes:
            raise BodyTooLargeError(max_bytes)
        return whole
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLargeError(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


async def respond(
    send: Send,
    status: int,
    media_type: str,
    pieces: Sequence[bytes | memoryview],
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a whole answer, its body in consecutive pieces (at least one).

    A large one has left, but for the little that a connection buffers, when this returns.
    """
    size = sum(map(len, pieces))
    if size <= _COPIED_BYTES:
        pieces = [b"".join(pieces)]
    sent = [
        (b"content-type", media_type.encode("latin-1")),
        (b"content-length", b"%d" % size),
        *headers,
    ]
    is_large = size >= LARGE_ANSWER_BYTES
    if isinstance(send, AnswerWatch) and not is_large:
        head = b"".join([b"%b: %b\r\n" % header for header in sent])
        if send.write_whole(status, head, pieces):
            return
    await send({"type": "http.response.start", "status": status, "headers": sent})
    if is_large:
        pieces = [*pieces, b""]
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if is_large:
        await asyncio.sleep(0)  # it is on its way now; what follows waits until most of it has left
    await send({"type": "http.response.body", "body": pieces[-1], "more_body": False})


async def respond_problem(send: Send, problem: Problem) -> None:
    """Send the answer that tells of an error."""
    headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in problem.headers.items()]
    await respond(send, problem.status, MEDIA_TYPE, [problem.body()], headers)
