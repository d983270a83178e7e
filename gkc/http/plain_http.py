"""uvicorn's HTTP/1.1 protocol, made to stay HTTP/1.1.

Java's HttpClient and ``curl --http2`` send ``Upgrade: h2c`` with every first request, which a
server may ignore (RFC 9110, 7.8). The parser takes whatever follows such a head for another
protocol's bytes, so that uvicorn would lose the body.
"""

from __future__ import annotations

from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gkc.http.asgi import headers

_MOST_TOLD: Final = 100


class UnservedError(Exception):
    """A request asks for what HTTP has and this service has not: what to tell, and to log."""


class PlainHttpProtocol(HttpToolsProtocol):
    """A connection on which no other protocol is ever spoken."""

    def feed(self, data: bytes | memoryview) -> None:
        """Have bytes parsed; a head that asks for another protocol is read again without that."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as asked:
                head = self._head_without_upgrade()
                # The old parser skips all that follows a request after which the connection ends.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(head)
                data = memoryview(data)[asked.args[0] :]
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
        if self.scope["method"] == "CONNECT":
            target = repr(self.url.decode("latin-1"))
            detail = f"no tunnel to {target} is opened here: CONNECT is not served"
            raise UnservedError(detail, "a tunnel is asked for")
        return any(name == b"upgrade" for name, _ in self.headers)

    def check_served(self) -> None:
        """Check that the head just read asks for what is served.

        Raises
        ------
        UnservedError
            If it does not.
        """
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise UnservedError(f"HTTP/{version} is not served: ask in HTTP/1.1", "another version")
        codings = headers(self.scope).get(b"transfer-encoding", b"chunked")  # type: ignore[arg-type]
        if codings.lower() != b"chunked":
            named = ascii(codings.decode("latin-1"))[:_MOST_TOLD]
            detail = f"transfer coding {named} is not served here: send chunked, or content-length"
            raise UnservedError(detail, "another transfer coding")
