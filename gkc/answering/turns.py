"""Pauses of long answers: of all that pause, one goes on in each turn of the event loop.

If all went on in the next turn, sixty long answers would hold up everybody else sixty times as long
as one does.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets those who pause go on one after the other, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def pause(self) -> None:
        """Let all others have their turn."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._go_on)
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _go_on(self) -> None:
        """Let one go on; who waits no longer has no turn."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._go_on)
