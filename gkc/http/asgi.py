"""Reading requests and writing answers on bare ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.types import Receive, Scope, Send

from gkc.errors import BodyTooLargeError, ClientGoneError
from gkc.http.admission import LARGE_ANSWER_BYTES
from gkc.http.problems import Problem
from gkc.problem import MEDIA_TYPE

_HEADERS: Final = "gkc.headers"
"""Where a request's headers are kept once they are read."""
_COPIED_BYTES: Final = 131_072
"""A body so small is sent in one piece: copying it costs less than sending one more piece."""


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


async def read_body(declared: bytes, receive: Receive, max_bytes: int) -> bytes:
    """Read a request's whole body.

    Parameters
    ----------
    declared : bytes
        The header ``content-length``, empty if there is none.
    receive : callable
    max_bytes : int

    Raises
    ------
    BodyTooLargeError
        If it has more than ``max_bytes`` bytes; as soon as that is known.
    ClientGoneError
        If the caller hangs up first.
    """
    if size_of(declared) > max_bytes:
        raise BodyTooLargeError(max_bytes)
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
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", media_type.encode("latin-1")),
                (b"content-length", str(size).encode("latin-1")),
                *headers,
            ],
        }
    )
    if size >= LARGE_ANSWER_BYTES:
        pieces = [*pieces, b""]
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if size >= LARGE_ANSWER_BYTES:
        await asyncio.sleep(0)  # it is on its way now; what follows waits until most of it has left
    await send({"type": "http.response.body", "body": pieces[-1], "more_body": False})


async def respond_problem(send: Send, problem: Problem) -> None:
    """Send the answer that tells of an error."""
    headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in problem.headers.items()]
    await respond(send, problem.status, MEDIA_TYPE, [problem.body()], headers)
