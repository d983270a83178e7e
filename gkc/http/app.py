"""Wiring: settings and a reader in, an ASGI application out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import gkc
from gkc.answering.answering import Answering
from gkc.answering.deadlines import Deadlines
from gkc.answering.reader import GuardedReader
from gkc.answering.serving import Serving
from gkc.answering.user_cache import UserCache, UserReader
from gkc.errors import GkcError
from gkc.http.access import Guarded
from gkc.http.admin import Divided
from gkc.http.admission import Admission
from gkc.http.api_keys import follow_keys
from gkc.http.asgi import respond_problem
from gkc.http.docs import add_docs
from gkc.http.host import Host
from gkc.http.metrics import Metrics
from gkc.http.middleware import Observed
from gkc.http.openapi import COMPONENTS, KNOWLEDGE, SECURITY
from gkc.http.problems import Problem, problem_of, problem_of_status
from gkc.http.readiness import Readiness
from gkc.http.routes import KNOWLEDGE_PATH, KnowledgeEndpoint, Routes
from gkc.http.tls import follow_tls
from gkc.logs import REPETITIONS
from gkc.problem import MEDIA_TYPE
from gkc.settings import Settings
from gkc.store import KnowledgeReader

_MEBIBYTE = 1024 * 1024


class Front:
    """Sends the one hot path straight to its endpoint, and everything else to FastAPI.

    Going through FastAPI's own routing costs as much as answering a single row. Its routes do not
    answer HEAD, which asks for all of an answer to GET but the body, which the server leaves out.

    Parameters
    ----------
    knowledge : ASGI application
    rest : ASGI application
    """

    def __init__(self, knowledge: ASGIApp, rest: ASGIApp) -> None:
        self._knowledge = knowledge
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] != "http" or scope["path"] != KNOWLEDGE_PATH:
            if scope.get("method") == "HEAD":
                scope = {**scope, "method": "GET"}
            await self._rest(scope, receive, send)
        elif scope["method"] == "POST":
            await self._knowledge(scope, receive, send)
        else:
            detail = f"{scope['method']} is not allowed here; POST the rows to ask for"
            await respond_problem(send, problem_of_status(405, detail, {"allow": "POST"}))


class Api(FastAPI):
    """FastAPI with our types in its OpenAPI document, and the hot path, which it never sees."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, built once."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title,
                version=self.version,
                summary=self.summary,
                routes=self.routes,
            )
            document["paths"] = {KNOWLEDGE_PATH: KNOWLEDGE, **document["paths"]}
            document["components"] = COMPONENTS
            document["security"] = SECURITY
            self.openapi_schema = document
        return self.openapi_schema


class Service:
    """The whole service as one ASGI application.

    Parameters
    ----------
    settings : Settings
    reader : KnowledgeReader
        Closed when the application shuts down.
    metrics_directory : Path, optional
        Where the workers share their metrics.
    host : Host, optional
        What the workers know of each other.

    Attributes
    ----------
    admission : Admission
        What decides for everyone who asks here, through whatever door.
    tls : FollowedFiles, optional
        What the server speaks TLS by.
    admin : ASGI application
        What a port of operators answers.
    """

    def __init__(
        self,
        settings: Settings,
        reader: KnowledgeReader,
        metrics_directory: Path | None = None,
        host: Host | None = None,
    ) -> None:
        self.metrics = Metrics(metrics_directory)
        self.admission = Admission()
        timeout_seconds = settings.store_timeout_ms / 1000
        self._reader = GuardedReader(reader, self.metrics, timeout_seconds, settings.stale_seconds)
        self.serving = Serving(
            self._reader,
            self.metrics,
            item_memory_bytes=settings.item_memory_mb * _MEBIBYTE,
            refresh_seconds=settings.refresh_ms / 1000,
            load_wait_seconds=timeout_seconds,
        )
        api = Api(
            title="gkc",
            summary="General knowledge center: pretrained knowledge of users and items, served.",
            version=gkc.__version__,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            default_response_class=Response,
            lifespan=self.lifespan,
        )
        readiness = Readiness(self.serving, host, needs_store=settings.ready_needs_store)
        Routes(self.serving, self.metrics, readiness).add_to(api)
        add_docs(api)
        api.add_exception_handler(HTTPException, _answer_status)
        for error in (GkcError, Exception):
            api.add_exception_handler(error, _answer_error)
        users: UserReader = self._reader
        if max_bytes := settings.user_cache_bytes:
            watch = self._reader.watch
            users = UserCache(users, max_bytes, watch, *self.metrics.user_cache())
        knowledge = KnowledgeEndpoint(
            Answering(self.serving, users, self.metrics),
            self.metrics,
            self.admission,
            Deadlines(settings.request_timeout_ms / 1000, "GKC_REQUEST_TIMEOUT_MS"),
            max_rows=settings.max_rows,
            max_body_bytes=settings.max_body_bytes,
        )
        front: ASGIApp = Front(knowledge, api)
        self.metrics.routes = _paths(api)
        self.admin = Observed(Divided(front, is_admin=True), self.metrics)
        if settings.admin_port:
            front = Divided(front, is_admin=False)
        keys = follow_keys(settings)
        self.tls = follow_tls(settings)
        self._followed = [files for files in (keys, self.tls) if files]
        needs_certificate = settings.tls_client_ca_file is not None
        if keys or needs_certificate:
            front = Guarded(front, keys, needs_certificate=needs_certificate)
        self._app = Observed(front, self.metrics)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection's scope."""
        return self._app(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Follow what may change while the application runs, and close the store afterwards."""
        followed = self.serving, *self._followed
        following = [asyncio.create_task(each.follow()) for each in followed]
        try:
            yield
        finally:
            for task in following:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self.metrics.add_tally()
            await self._reader.close()
            REPETITIONS.tell()


async def _answer_error(_: Request, error: Exception) -> Response:
    """Tell of an error that an endpoint raised."""
    return _answer(problem_of(error))


async def _answer_status(request: Request, error: Exception) -> Response:
    """Tell of a path or a method that FastAPI's routing does not know."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.scope["path"]
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        if path.removesuffix("/") != path and path.removesuffix("/") in _paths(request.app):
            return _without_slash(request)
        detail = f"there is nothing at {path}; see /openapi.json"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"allow": "GET, HEAD"}
        detail = f"{method} is not allowed here; GET it"
    else:
        detail = error.detail
    return _answer(problem_of_status(error.status_code, detail, headers))


def _without_slash(request: Request) -> Response:
    """Send a caller to the same path without its last slash; relative, since Host may lie."""
    path = request.scope["path"].removesuffix("/")
    query = request.scope["query_string"].decode("latin-1")
    location = f"..{path}?{query}" if query else f"..{path}"
    detail = f"this is at {path}, without a slash at its end"
    status = HTTPStatus.TEMPORARY_REDIRECT
    return _answer(problem_of_status(status, detail, {"location": location}))


def _paths(api: FastAPI) -> set[str]:
    return {KNOWLEDGE_PATH, *(route.path for route in api.routes if isinstance(route, Route))}


def _answer(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, dict(problem.headers), MEDIA_TYPE)
