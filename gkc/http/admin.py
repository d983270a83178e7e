"""A port for those who run the service: metrics and documentation, without TLS or keys."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gkc.http.access import OPEN_PATHS
from gkc.http.asgi import respond_problem
from gkc.http.docs import DOCS_PATH
from gkc.http.problems import problem_of_status

_PATHS: Final = frozenset({"/metrics", "/openapi.json", DOCS_PATH})


class Divided:
    """One of two doors to an application: each path is behind one of them, or open at both.

    Parameters
    ----------
    app : ASGI application
    is_admin : bool
        Whether this is the door of operators.
    """

    def __init__(self, app: ASGIApp, *, is_admin: bool) -> None:
        self._app = app
        self._is_admin = is_admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            path = scope["path"]
            is_admin = path in _PATHS or path.startswith(f"{DOCS_PATH}/")
            if is_admin != self._is_admin:
                other = "GKC_ADMIN_PORT" if is_admin else "GKC_PORT"
                detail = f"there is nothing at {path} here; ask at the port that {other} names"
                await respond_problem(send, problem_of_status(404, detail, {}))
                return
        await self._app(scope, receive, send)


class AdminServer:
    """Serves operators, in the event loop of the server beside it.

    Parameters
    ----------
    app : ASGI application
    listener : socket
    options : mapping of str to object
        How uvicorn is run beside it.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, options: Mapping[str, Any]) -> None:
        self._listener = listener
        self._server = uvicorn.Server(uvicorn.Config(app, **{**options, "lifespan": "off"}))

    async def begin(self) -> None:
        """Start to accept connections."""
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup([self._listener])

    def stop_listening(self) -> None:
        """Leave new connections to others."""
        for server in self._server.servers:
            server.close()
        self._listener.close()

    def end(self) -> None:
        """Cut what is left: an operator asks again."""
        self.stop_listening()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
