"""Errors → RFC 9457 problem details, by the table in `gkc.problem`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from random import choice
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gkc import errors
from gkc.http.schemas import ProblemDetails
from gkc.problem import KINDS, MEDIA_TYPE, kind_of

_MOST_CHARACTERS: Final = 8192
"""Of a detail: many repeat what the caller sent, and nobody is to be sent megabytes of it."""
BLANK: Final = "about:blank"
"""The type of a problem of which its status says all."""

BARE_STATUSES: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.TEMPORARY_REDIRECT: "a path with a slash too many, such as `/knowledge/`; "
    "`Location` is relative",
    HTTPStatus.BAD_REQUEST: "what came is no HTTP/1.1 request, or one in a transfer coding other "
    "than `chunked`; the connection is closed",
    HTTPStatus.NOT_FOUND: "there is nothing at this path",
    HTTPStatus.METHOD_NOT_ALLOWED: "the method is not served here; `Allow` names what is",
}
"""Statuses that stand for no error of ours, and when they are answered; of the type `BLANK`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that tells of an error."""

    details: ProblemDetails
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.details.status

    def body(self) -> bytes:
        """Return the JSON document."""
        return msgspec.json.encode(self.details)


def problem_of(error: Exception) -> Problem:
    """Return how an error is told; one that nobody foresaw is told without its details."""
    kind = kind_of(error)
    if kind is KINDS[Exception]:
        detail = "the service failed; its log says why, under the id in X-Request-ID"
    else:
        detail = str(error)
        if len(detail) > _MOST_CHARACTERS:
            detail = detail[:_MOST_CHARACTERS] + "…"
    headers = {}
    if kind.retry_after_seconds:
        headers["retry-after"] = str(choice(kind.retry_after_seconds))
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    details = ProblemDetails(kind.type, kind.title, kind.status, detail, **_extra(error))
    return Problem(details, headers)


def problem_of_status(status: int, detail: str, headers: Mapping[str, str]) -> Problem:
    """Return how a bare HTTP status is told, such as that of a path that does not exist."""
    return Problem(ProblemDetails(BLANK, HTTPStatus(status).phrase, status, detail), headers)


def written(problem: Problem) -> tuple[bytes, bytes]:
    """Return the lines that every head of this problem begins with, and its body."""
    body = problem.body()
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem.headers}
    lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
    return b"".join([STATUS_LINE[problem.status], *lines]), body


def _extra(error: Exception) -> dict[str, Any]:
    if isinstance(error, errors.InvalidFieldsError):
        return {"errors": list(error.errors)}
    if isinstance(error, errors.VersionNotFoundError):
        return {"versions": list(error.known)}
    if isinstance(error, errors.BatchTooLargeError):
        return {"max_rows": error.max_rows}
    return {}
