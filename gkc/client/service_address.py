"""One URL of a service: where it is, how it fares, and the connections to it that are idle."""

from __future__ import annotations

import errno
import random
import re
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from weakref import WeakSet

from gkc.errors import ClientUsageError

if TYPE_CHECKING:
    from gkc.client.service_connection import Connection

_PORTS: Final = {"http": 80, "https": 443}
_PLAIN: Final = re.compile(r"[!-~]+")
_MOST_IDLE: Final = 32
_LEFT_OUT_SECONDS: Final = 0.1
_LONGEST_LEFT_OUT_SECONDS: Final = 5.0

Candidate = tuple[int, int, int, str, tuple[Any, ...]]
"""What ``getaddrinfo`` tells of one place."""


class Address:
    """One URL of a service.

    Parameters
    ----------
    url : str
        ``http://HOST[:PORT][/PREFIX]`` or ``https://…``.

    Attributes
    ----------
    url : str
        The same, without a slash at its end.
    under_way : set of Connection
        Those that carry a request. Weakly held: what an interrupt dropped is not counted for ever.

    Raises
    ------
    ClientUsageError
        If the URL names no service.
    """

    def __init__(self, url: str) -> None:
        scheme, self.host, self.port, self.prefix = _parsed(url)
        named = f"[{self.host}]" if ":" in self.host else self.host
        self.host_header = named if self.port == _PORTS[scheme] else f"{named}:{self.port}"
        self.is_tls = scheme == "https"
        self.url = f"{scheme}://{self.host_header}{self.prefix}"
        self.candidates: Sequence[Candidate] = ()
        self.failure: OSError | None = None
        self.is_resolved = False
        self.under_way: WeakSet[Connection] = WeakSet()
        self.left_out_until = 0.0
        self._failures = 0
        self._idle: deque[Connection] = deque()

    def resolve(self) -> None:
        """Find out where the host is; waits for the name service, unless the host is a number."""
        try:
            self.candidates = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            self.failure = None
            self.is_resolved = True
        except (OSError, UnicodeError) as error:  # the latter: a name that cannot be one
            reason = getattr(error, "strerror", None) or error
            self.failure = OSError(errno.EHOSTUNREACH, f"no host {self.host!r}: {reason}")

    def succeeded(self) -> None:
        """Note that it answers."""
        self._failures = 0
        self.left_out_until = 0.0

    def failed(self) -> None:
        """Leave it out for a short time, longer each time in a row; its name is looked up anew."""
        self.is_resolved = False
        pause = min(_LEFT_OUT_SECONDS * 2**self._failures, _LONGEST_LEFT_OUT_SECONDS)
        self._failures = min(self._failures + 1, 10)
        self.left_out_until = monotonic() + pause

    def leave_out(self, seconds: float) -> None:
        """Leave it out as long as it asks for, but not for long."""
        pause = min(seconds, _LONGEST_LEFT_OUT_SECONDS)
        self.left_out_until = max(self.left_out_until, monotonic() + pause)

    def take_idle(self) -> Connection | None:
        """Return an open connection, if there is one that the service has not closed meanwhile."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took it
                return None
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection) -> None:
        """Keep an open connection for the next request."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def drop(self, connection: Connection) -> None:
        """Close an idle connection that the service has closed."""
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


class Addresses:
    """The addresses of one service: which is asked next."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.all = [Address(url) for url in urls]
        if len({address.url for address in self.all}) < len(self.all):
            raise ClientUsageError("an address is named twice; name each once")

    def unresolved(self) -> list[Address]:
        """Return the addresses whose names are to be looked up."""
        return [address for address in self.all if not address.is_resolved]

    def choose(self, tried: Iterable[Address]) -> Address:
        """Return the address with the fewest requests under way.

        Those that failed lately or were ``tried`` come only where there is no other.
        """
        if len(self.all) == 1:
            return self.all[0]
        now = monotonic()
        return min(
            self.all,
            key=lambda address: (
                address.left_out_until > now,
                address in tried,
                len(address.under_way),
                random.random(),
            ),
        )

    def has_other(self, tried: Iterable[Address]) -> bool:
        """Tell whether there is an address that was not tried and did not fail lately."""
        now = monotonic()
        others = set(self.all) - set(tried)
        return any(address.left_out_until <= now for address in others)


def _parsed(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and prefix of a URL."""
    if not _PLAIN.fullmatch(url):
        raise _refused("it holds characters that no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(str(error)) from None
    if "@" in parts.netloc:
        raise _refused(
            "it holds a user's name or a password, which would be sent to nobody; leave it out"
        )
    if not parts.hostname:
        raise _refused("it names no host")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise _refused("it has a query or a fragment")
    if port == 0:
        raise _refused("its port is 0")
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path.rstrip("/")


def _refused(reason: str) -> ClientUsageError:
    return ClientUsageError(
        f"the URL of a service is http://HOST:PORT or https://HOST:PORT, but {reason}"
    )
