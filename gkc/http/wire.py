"""uvicorn's HTTP/1.1 protocol, made to write in one go and to stay HTTP/1.1.

uvicorn writes an answer's head and each piece of its body by itself, and uvloop sends each at once:
four system calls, and as many wake-ups of the caller, for what fits into one.

Java's HttpClient and ``curl --http2`` send ``Upgrade: h2c`` with every first request, which a
server may ignore (RFC 9110, 7.8). The parser takes whatever follows such a head for another
protocol's bytes, so that uvicorn would lose the body.

What is no HTTP at all is refused before any application sees it: as a problem, like all else.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gkc.http.problems import problem_of_status
from gkc.problem import MEDIA_TYPE


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

    def data_received(self, data: bytes) -> None:
        """Take bytes of requests; a head that asks for another protocol is read without that."""
        self._unset_keepalive_if_required()
        try:
            self._feed(memoryview(data))
        except httptools.HttpParserUpgrade:
            self.send_400_response("no tunnel is opened here: CONNECT is not served")
        except httptools.HttpParserCallbackError:  # uvicorn's callback reads the target
            target = self.url.decode("latin-1")
            self.send_400_response(
                f"the request's target {target!r} is no path, nor a URL with one"
            )
        except httptools.HttpParserError as exc:
            self.send_400_response(f"the request is not well-formed HTTP/1.1: {exc}")

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser refuses, and close the connection."""
        self.logger.warning(msg)
        problem = problem_of_status(HTTPStatus.BAD_REQUEST, msg, {})
        body = problem.body()
        lines = [
            b"HTTP/1.1 400 Bad Request",
            *(name + b": " + value for name, value in self.server_state.default_headers),
            b"content-type: " + MEDIA_TYPE.encode(),
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()

    def _feed(self, data: memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as asked:
                head = self._head_without_upgrade()
                # The old parser skips all that follows a request after which the connection ends.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(head)
                data = data[asked.args[0] :]
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        """Return the head just read as it would be without its wish."""
        method, version = self.scope["method"], self.scope["http_version"]
        kept = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        first = b"%b %b HTTP/%b" % (method.encode(), self.url, version.encode())
        return b"\r\n".join([first, *kept, b"", b""])

    def _should_upgrade(self) -> bool:
        """Leave a head that asks for another protocol unanswered: it is read again without that."""
        return any(name == b"upgrade" for name, _ in self.headers)
