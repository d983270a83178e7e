"""What happens around every request: its id, its metrics, and the net under its errors."""

from __future__ import annotations

import re
from random import getrandbits
from time import perf_counter
from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from gkc.errors import OverloadedError
from gkc.http.access import CALLER
from gkc.http.asgi import AnswerWatch, headers, respond_problem
from gkc.http.metrics import Metrics
from gkc.http.problems import problem_of
from gkc.logs import REQUEST_ID, cause_of, unforeseen
from gkc.problem import kind_of

log = structlog.get_logger(__name__)

TURN: Final = "gkc.turn"
"""Where a scope has what tells, in its turn, whether its request may begin."""
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_SERVER_ERRORS: Final = 500


class Observed:
    """Gives every request an id, counts and times it, and turns what it raises into problems.

    Parameters
    ----------
    app : ASGI application
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._tally = metrics.tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(headers(scope).get(b"x-request-id", b""))
        REQUEST_ID.set(request_id)
        answer = AnswerWatch(scope, send, request_id)
        started = perf_counter()
        self._tally.begin()
        try:
            await self._run(scope, receive, answer)
        finally:
            route = self._metrics.route_of(scope["path"])
            self._tally.end(route, answer.status, perf_counter() - started)

    async def _run(self, scope: Scope, receive: Receive, answer: AnswerWatch) -> None:
        try:
            if TURN in scope and not await scope[TURN]:
                raise OverloadedError
            await self._app(scope, receive, answer)
        except Exception as exc:  # a request's outermost net: whatever happens, the process lives
            problem = problem_of(exc)
            self._metrics.reject(exc)
            if problem.status >= _SERVER_ERRORS and not kind_of(exc).is_limit:
                details = {"caller": scope[CALLER]} if CALLER in scope else {}
                log.error(
                    "request_failed",
                    path=scope["path"],
                    code=problem.status,
                    cause=cause_of(exc),
                    exc_info=unforeseen(exc),
                    **details,
                )
            if answer.is_finished:
                return
            if answer.is_started:
                # The server cuts the connection, and logs this: not what ``exc`` may say.
                raise RuntimeError("half an answer is out: see request_failed") from None
            await respond_problem(answer, problem)


def request_id_of(header: bytes) -> str:
    """Return the id that the caller gave, if it is fit to be logged and echoed, else a new one."""
    given = header.decode("latin-1")
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return f"{getrandbits(128):032x}"  # other ones in each worker: a fork seeds anew
