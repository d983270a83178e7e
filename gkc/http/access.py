"""Who may call: a guard that asks for a key, a certificate, or both, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gkc.errors import UnauthorizedError
from gkc.http.api_keys import Keys, digest_of
from gkc.http.asgi import headers

CALLER: Final = "gkc.caller"
"""Where the name of a request's caller is kept: that of its certificate, then that of its key."""
OPEN_PATHS: Final = frozenset({"/livez", "/readyz"})
"""Answered to anybody: what starts and watches the service holds no key."""


class Guarded:
    """Lets in only who shows what is asked for, except where anybody may ask.

    Parameters
    ----------
    app : ASGI application
    keys : FollowedFiles of keys, optional
        Without it no key is asked for.
    needs_certificate : bool
        Whether callers show a certificate, which the connection has checked.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None, *, needs_certificate: bool) -> None:
        self._app = app
        self._keys = keys
        self._needs_certificate = needs_certificate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            if self._needs_certificate and CALLER not in scope:
                raise UnauthorizedError(
                    "this service answers those who show a certificate of its authority"
                )
            if self._keys is not None:
                authorization = headers(scope).get(b"authorization", b"")
                scope[CALLER] = _caller(self._keys.value, authorization)
        await self._app(scope, receive, send)


def _caller(names: Mapping[bytes, str], authorization: bytes) -> str:
    scheme, _, key = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise UnauthorizedError(
            "this service answers those who show a key; send `Authorization: Bearer KEY`: "
            "gkc.Client does, given api_key=, and commands, given GKC_API_KEY"
        )
    name = names.get(digest_of(key.strip()))
    if name is None:
        raise UnauthorizedError("the key that was sent is none of those that are let in")
    return name
