"""The endpoints: each decodes, awaits and encodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from gkc.errors import CatalogueLostError
from gkc.service.answering import Answering
from gkc.service.decoding import decode_json, decode_safetensors
from gkc.service.encoding import encode
from gkc.service.http import header, read_body, respond
from gkc.service.metrics import Metrics
from gkc.service.negotiation import JSON, answer_type, body_type
from gkc.service.schemas import Answer, KnowledgeRequest
from gkc.service.serving import Serving
from gkc.store import Catalogue

KNOWLEDGE_PATH: Final = "/knowledge"


class KnowledgeEndpoint:
    """``POST /knowledge`` on bare ASGI: the hot path, from bytes to bytes.

    Parameters
    ----------
    answering : Answering
    metrics : Metrics
    max_rows, max_body_bytes : int
        The most that one request may ask for and may have.
    """

    def __init__(
        self, answering: Answering, metrics: Metrics, *, max_rows: int, max_body_bytes: int
    ) -> None:
        self._answering = answering
        self._metrics = metrics
        self._max_rows = max_rows
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answered_as = answer_type(header(scope, b"accept"))
        asked_as = body_type(
            header(scope, b"content-type"), header(scope, b"content-encoding").lower()
        )
        body = await read_body(scope, receive, self._max_body_bytes)
        decode = decode_json if asked_as == JSON else decode_safetensors
        request = decode(body, self._max_rows)
        answer = await self._answering.answer(request)
        await respond(send, 200, answered_as, encode(answer, answered_as))
        self._count(request, answer)

    def _count(self, request: KnowledgeRequest, answer: Answer) -> None:
        columns = request.columns
        self._metrics.request_rows.labels(KNOWLEDGE_PATH).observe(columns.n)
        for k, version in enumerate(columns.versions):
            is_alone = len(columns.versions) == 1
            status = answer.status if is_alone else answer.status[columns.version_index == k]
            self._metrics.count_parts(version, request.parts, status)


class VersionInfo(BaseModel):
    """What ``GET /versions`` tells of one version."""

    version: str
    generation: str
    previous: str | None
    published_at: str
    users: int
    items: int
    user_categories: int
    dim: int
    category_dim: int
    dtype: str
    bytes: int
    pinned: bool
    ready: bool
    bundle: str


class VersionList(BaseModel):
    """The body of ``GET /versions``, newest version first."""

    max_versions: int
    versions: list[VersionInfo]


class Routes:
    """Every endpoint but the hot one.

    Parameters
    ----------
    serving : Serving
    metrics : Metrics
    """

    def __init__(self, serving: Serving, metrics: Metrics) -> None:
        self._serving = serving
        self._metrics = metrics

    def add_to(self, api: FastAPI) -> None:
        """Add the endpoints to an application."""
        api.add_api_route("/versions", self.versions, summary="The versions that are served")
        api.add_api_route("/livez", self.livez, summary="Whether the process lives")
        api.add_api_route("/readyz", self.readyz, summary="Whether every version can be served")
        api.add_api_route(
            "/metrics", self.metrics, summary="Prometheus metrics", response_class=Response
        )

    async def versions(self) -> VersionList:
        """List the versions, newest first; ``ready`` is whether this worker serves it by now."""
        return version_list(self._serving.catalogue(), self._serving.is_loaded)

    async def livez(self) -> dict[str, str]:
        """Answer as long as the process can."""
        return {"status": "alive"}

    async def readyz(self) -> dict[str, str]:
        """Answer 200 once every version that the catalogue held at start can be served."""
        self._serving.check_ready()
        return {"status": "ready"}

    def metrics(self) -> Response:
        """Render the metrics of all workers; in a thread, because it may read many files."""
        body = self._metrics.render(self._serving.last_catalogue)
        return Response(body, media_type=CONTENT_TYPE_LATEST)


def version_list(catalogue: Catalogue | None, is_ready: Callable[[str, str], bool]) -> VersionList:
    """Describe the versions of a catalogue.

    Parameters
    ----------
    catalogue : Catalogue or None
        None lists nothing.
    is_ready : callable
        Told a version and its current generation, says whether it can be answered.
    """
    catalogue = catalogue or Catalogue()
    versions = []
    for version in catalogue.newest_first():
        entry = catalogue.versions[version]
        generation = catalogue.generations[entry.current]
        if generation.summary is None:
            raise CatalogueLostError(version, f"it does not describe {entry.current}")
        versions.append(
            VersionInfo(
                version=version,
                generation=entry.current,
                previous=entry.previous,
                published_at=generation.published_at,
                pinned=entry.pinned,
                ready=is_ready(version, entry.current),
                **asdict(generation.summary),
            )
        )
    return VersionList(max_versions=catalogue.max_versions, versions=versions)
