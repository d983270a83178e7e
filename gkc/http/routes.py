"""The endpoints: each decodes, awaits and encodes."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from fastapi import FastAPI, Response
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from gkc.answering.answering import Answering
from gkc.answering.deadlines import Deadlines
from gkc.answering.serving import Serving
from gkc.center.listing import version_list
from gkc.http.admission import Admission
from gkc.http.asgi import headers, read_body, respond
from gkc.http.deadlines import deadline_of
from gkc.http.decoding import decode_json, decode_safetensors
from gkc.http.encoding import bytes_of_number, encode
from gkc.http.limits import refuse_many_versions
from gkc.http.metrics import Metrics
from gkc.http.negotiation import JSON, answer_type, body_type
from gkc.http.openapi import OPERATIONS
from gkc.http.readiness import Readiness
from gkc.http.schemas import Health
from gkc.http.tally import FLUSH_SECONDS, AnsweredRows

KNOWLEDGE_PATH: Final = "/knowledge"
_FEW_ROWS: Final = 50
"""So many are no large answer, whatever their width."""


class KnowledgeEndpoint:
    """``POST /knowledge`` on bare ASGI: the hot path, from bytes to bytes.

    Parameters
    ----------
    answering : Answering
    metrics : Metrics
    admission : Admission
        Holds memory for large answers.
    deadlines : Deadlines
    max_rows, max_body_bytes : int
        The most that one request may ask for and may have.
    """

    def __init__(
        self,
        answering: Answering,
        metrics: Metrics,
        admission: Admission,
        deadlines: Deadlines,
        *,
        max_rows: int,
        max_body_bytes: int,
    ) -> None:
        self._answering = answering
        self._deadlines = deadlines
        self._tally = metrics.tally
        self._admission = admission
        self._max_rows = max_rows
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        given = headers(scope)
        answered_as = answer_type(given.get(b"accept", b"").decode("latin-1"))
        asked_as = body_type(
            given.get(b"content-type", b"").decode("latin-1"),
            given.get(b"content-encoding", b"").decode("latin-1").lower(),
        )
        held = 0
        try:
            with deadline_of(scope, self._deadlines):
                body = await read_body(scope, receive, self._max_body_bytes)
                decode = decode_json if asked_as == JSON else decode_safetensors
                request = decode(body, self._max_rows)
                refuse_many_versions(request)
                if request.columns.n > _FEW_ROWS:
                    size = self._answering.numbers(request)
                    size *= bytes_of_number(request.dtype, answered_as)
                    held = self._admission.hold(size)
                answer = await self._answering.answer(request)
                pieces = await encode(answer, answered_as, self._answering.turns)
            await respond(send, 200, answered_as, pieces)
        finally:
            self._admission.free(held)
        self._tally.answers.append(
            AnsweredRows(KNOWLEDGE_PATH, request.columns.n, request.parts, answer.counts)
        )


class Routes:
    """Every endpoint but the hot one.

    Parameters
    ----------
    serving : Serving
    metrics : Metrics
    readiness : Readiness
    """

    def __init__(self, serving: Serving, metrics: Metrics, readiness: Readiness) -> None:
        self._serving = serving
        self._metrics = metrics
        self._readiness = readiness
        self._rendering = asyncio.Lock()
        self._renders_begun = 0
        self._rendered = 0, b""
        """Which of them was the last that ended well, and what it told."""

    def add_to(self, api: FastAPI) -> None:
        """Add the endpoints to an application, each at the path of its name."""
        for endpoint in (self.versions, self.livez, self.readyz, self.metrics):
            path = f"/{endpoint.__name__}"
            api.add_api_route(path, endpoint, openapi_extra=OPERATIONS[path])

    async def versions(self) -> Response:
        """List the versions, newest first; ``ready`` is whether this worker serves it by now."""
        return _json(version_list(self._serving.catalogue(), self._serving.is_loaded))

    async def livez(self) -> Response:
        """Answer as long as event loops turn: if this one stands still, nothing is answered."""
        self._readiness.check_alive()
        return _json(Health("alive"))

    async def readyz(self) -> Response:
        """Answer 200 while this host can answer for every version there was at its start."""
        return _json(self._readiness.health())

    async def metrics(self) -> Response:
        """Tell the metrics of all workers, in Prometheus's text format."""
        await asyncio.sleep(2 * FLUSH_SECONDS)  # what others have answered by now is counted then
        before = self._renders_begun
        async with self._rendering:
            if self._rendered[0] <= before:  # else one that began meanwhile is new enough
                self._renders_begun += 1
                self._rendered = self._renders_begun, await self._render()
            return Response(self._rendered[1], media_type=CONTENT_TYPE_LATEST)

    async def _render(self) -> bytes:
        """Render the metrics, in a thread, because that may read many files."""
        self._metrics.add_tally()
        serving = self._serving
        is_up = serving.outage() is None
        return await asyncio.to_thread(self._metrics.render, serving.last_catalogue, is_up)


def _json(answer: Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type=JSON)
