"""uvicorn's HTTP/1.1 protocol, with one write for everything that one turn of the loop answers.

uvicorn writes an answer's head and each piece of its body by itself, and uvloop sends each at once:
four system calls, and as many wake-ups of the caller, for what fits into one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class GatheringTransport:
    """A transport that sends what is written in one turn of the event loop together.

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
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def is_closing(self) -> bool:
        """Tell whether the connection is closed or about to be."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection once everything written is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            self._transport.writelines(pieces)


class GatheringProtocol(HttpToolsProtocol):
    """What ``gkc serve`` gives uvicorn as its ``http`` protocol."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
