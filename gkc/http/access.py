"""Who may call: the keys that are taken, followed in their file, and the guard that asks for one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from gkc.errors import CommandError, UnauthorizedError
from gkc.http.api_keys import digest_of, parse_keys, read_bytes
from gkc.http.asgi import headers
from gkc.settings import Settings

log = structlog.get_logger(__name__)

CALLER: Final = "gkc.caller"
"""Where the name of a request's caller is kept."""
_OPEN_PATHS: Final = frozenset({"/livez", "/readyz"})
"""Answered to anybody: what starts and watches the service holds no key."""
_REREAD_SECONDS: Final = 1.0
_SCHEME: Final = b"bearer"


class ApiKeys:
    """The keys in a file, read again whenever it changes.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CommandError
        If the file cannot be read, a line of it is none, or it holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = read_bytes(path)
        self._names = parse_keys(self._content, path)
        self._refusal = ""

    def caller(self, authorization: bytes) -> str:
        """Return the name of whoever sent this ``Authorization``.

        Raises
        ------
        UnauthorizedError
            If it shows no key of the file.
        """
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != _SCHEME:
            raise UnauthorizedError(
                "this service answers those who show a key; send `Authorization: Bearer KEY`"
            )
        name = self._names.get(digest_of(key.strip()))
        if name is None:
            raise UnauthorizedError("the key that was sent is none of those that are let in")
        return name

    def reread(self) -> None:
        """Read the file again; one that is broken is logged once, and the former keys stay."""
        try:
            content = read_bytes(self._path)
            if content == self._content and not self._refusal:
                return
            names = parse_keys(content, self._path)
        except CommandError as exc:
            if str(exc) != self._refusal:
                self._refusal = str(exc)
                log.error("api_keys_refused", cause=self._refusal, kept=len(self._names))
            return
        self._content, self._names, self._refusal = content, names, ""
        log.info("api_keys_read", keys=len(names))

    async def follow(self) -> None:
        """Read the file again from time to time, for ever."""
        while True:
            await asyncio.sleep(_REREAD_SECONDS)
            await asyncio.to_thread(self.reread)


def check_access(settings: Settings) -> None:
    """Check what says who may call, before there is any worker.

    Raises
    ------
    CommandError
    """
    if settings.api_keys_file:
        ApiKeys(settings.api_keys_file)


class Guarded:
    """Lets in only who shows a key, except where anybody may ask.

    Parameters
    ----------
    app : ASGI application
    keys : ApiKeys
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            scope[CALLER] = self._keys.caller(headers(scope).get(b"authorization", b""))
        await self._app(scope, receive, send)
