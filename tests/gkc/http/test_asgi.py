"""Bodies in pieces, and callers who hang up."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Message

from gkc.errors import BodyTooLargeError, ClientGoneError
from gkc.http.asgi import BODY, headers, read_body, respond


def receiver(*messages: Message) -> Any:
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0)

    return receive


def scope(*named: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "headers": list(named)}


def body(data: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


async def test_a_body_in_pieces() -> None:
    receive = receiver(body(b"ab", True), body(b"", True), body(b"cd"))
    assert await read_body(scope(), receive, 4) == b"abcd"


@pytest.mark.parametrize("whole", [None, b"abcd"])
async def test_a_body_that_is_here_as_a_whole_is_taken_from_the_server(whole: bytes | None) -> None:
    asked = scope() | {BODY: lambda: whole}
    assert await read_body(asked, receiver(body(b"abcd")), 4) == b"abcd"
    with pytest.raises(BodyTooLargeError):
        await read_body(asked, receiver(body(b"abcd")), 3)


async def test_a_body_too_large_is_known_by_its_length_or_by_reading() -> None:
    with pytest.raises(BodyTooLargeError):
        await read_body(scope((b"content-length", b"5")), receiver(), 4)
    with pytest.raises(BodyTooLargeError):
        await read_body(scope(), receiver(body(b"abc", True), body(b"de", True)), 4)
    for length in (b"4", b"0" * 5000 + b"4"):
        asked = scope((b"content-length", length))
        assert await read_body(asked, receiver(body(b"abcd")), 4) == b"abcd"


async def test_a_caller_who_hangs_up() -> None:
    with pytest.raises(ClientGoneError):
        await read_body(scope(), receiver(body(b"a", True), {"type": "http.disconnect"}), 4)


def test_repeated_headers_are_joined() -> None:
    asked = scope((b"accept", b"a/b"), (b"x", b"y"), (b"accept", b"c/d"))
    assert headers(asked) == {b"accept": b"a/b,c/d", b"x": b"y"}
    assert headers(scope()) == {}


@pytest.mark.parametrize(("length", "more"), [(3, [False]), (200_000, [True, False])])
async def test_an_answer_in_pieces_has_one_length_and_is_joined_if_small(
    length: int, more: list[bool]
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    last = b"c" * length
    await respond(send, 200, "text/plain", [b"ab", memoryview(last)], [(b"x", b"y")])
    assert sent[0]["headers"] == [
        (b"content-type", b"text/plain"),
        (b"content-length", str(2 + length).encode()),
        (b"x", b"y"),
    ]
    assert b"".join(m["body"] for m in sent[1:]) == b"ab" + last
    assert [m["more_body"] for m in sent[1:]] == more
