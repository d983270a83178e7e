"""What one turn of the loop writes leaves in one write, whole, in order, and before a close."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gkc.http.transport import GatheringTransport


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


async def test_what_was_written_for_a_caller_who_is_gone_is_dropped() -> None:
    sent, transport = gathering()
    transport.write(b"head")
    sent.close()
    await asyncio.sleep(0)
    assert sent.calls == ["close"]


async def test_everything_else_is_the_transports_own() -> None:
    _, transport = gathering()
    assert transport.get_extra_info("peername") == "no peername"
