"""A transport that sends in one go what is written in one turn of the event loop.

uvicorn writes an answer's head and each piece of its body by itself, and uvloop sends each at once:
four system calls, and as many wake-ups of the caller, for what fits into one.
"""

from __future__ import annotations

import asyncio
from typing import Any


class GatheringTransport:
    """A transport that sends what is written in one turn of the event loop together, or earlier.

    Parameters
    ----------
    transport : asyncio.Transport
        Everything but writing goes straight to it.
    loop : asyncio.AbstractEventLoop
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes | memoryview] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return what the transport inside has under this name."""
        return getattr(self._transport, name)

    def write(self, data: bytes | memoryview) -> None:
        """Send data with what else is written in this turn; nothing is copied."""
        if not self._pieces:
            self._loop.call_soon(self.send)
        self._pieces.append(data)

    def is_closing(self) -> bool:
        """Tell whether the connection is closed or about to be."""
        return self._transport.is_closing()

    def write_eof(self) -> None:
        """Tell the other side that nothing comes after what is written; it may still send."""
        self.send()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def close(self) -> None:
        """Close the connection once everything written is sent."""
        self.send()
        self._transport.close()

    def send(self, *pieces: bytes | memoryview) -> None:
        """Send what is written so far, and these pieces."""
        if self._pieces or pieces:
            pieces, self._pieces = (*self._pieces, *pieces), []
            if not self._transport.is_closing():  # else the caller is gone, and uvloop would raise
                self._transport.writelines(pieces)
