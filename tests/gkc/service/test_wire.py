"""What one turn of the loop writes leaves in one write, whole, in order, and before a close."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httpx
import uvicorn

from gkc.service.run import SERVER_OPTIONS
from gkc.service.wire import GatheringProtocol, GatheringTransport


class Sent:
    """A transport that writes down what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def writelines(self, pieces: list[bytes]) -> None:
        self.calls.append(list(pieces))

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls

    def get_extra_info(self, name: str) -> str:
        return f"no {name}"


def gathering() -> tuple[Sent, GatheringTransport]:
    sent = Sent()
    return sent, GatheringTransport(cast(asyncio.Transport, sent), asyncio.get_running_loop())


async def test_one_turn_is_one_write_and_the_next_another() -> None:
    sent, transport = gathering()
    transport.write(b"head")
    transport.write(b"body")
    assert sent.calls == []
    await asyncio.sleep(0)
    assert sent.calls == [[b"head", b"body"]]
    transport.write(b"next")
    await asyncio.sleep(0)
    assert sent.calls == [[b"head", b"body"], [b"next"]]


async def test_what_was_written_is_sent_before_the_close() -> None:
    sent, transport = gathering()
    transport.write(b"head")
    transport.close()
    await asyncio.sleep(0)
    assert sent.calls == [[b"head"], "close"]
    assert transport.is_closing()


async def test_everything_else_is_the_transports_own() -> None:
    _, transport = gathering()
    assert transport.get_extra_info("peername") == "no peername"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with many pieces, large and small, some of them a while later."""
    if scope["type"] != "http":
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-kept", b"yes")]})
    for piece in (b"a" * 10, b"b" * 300_000, b"c" * 10):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0.001)
    await send({"type": "http.response.body", "body": b"d" * 1_000_000})


async def test_a_real_server_sends_whole_answers_on_one_connection() -> None:
    assert SERVER_OPTIONS["http"] is GatheringProtocol
    options = SERVER_OPTIONS | {"lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **options))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    expected = b"a" * 10 + b"b" * 300_000 + b"c" * 10 + b"d" * 1_000_000
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            answer = await client.get("/")
            assert answer.headers["x-kept"] == "yes"
            assert answer.content == expected
        closing = await client.get("/", headers={"connection": "close"})
        assert closing.content == expected
    server.should_exit = True
    await serving
