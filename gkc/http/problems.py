"""Errors → RFC 9457 problem details: one table, the only place that knows HTTP statuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import orjson

from gkc.errors import (
    BatchTooLargeError,
    BodyTooLargeError,
    ClientGoneError,
    EncodedBodyError,
    InvalidFieldsError,
    MalformedBodyError,
    NotAcceptableError,
    ServiceNotReadyError,
    StoreError,
    UnsupportedMediaTypeError,
    VersionNotFoundError,
    VersionNotReadyError,
)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:gkc:problem:"
RETRY_AFTER_SECONDS: Final = 1
CLIENT_CLOSED_REQUEST: Final = 499
"""No standard status: nobody reads this answer, but metrics and logs name it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table: how one class of errors is told."""

    status: int
    name: str
    title: str
    retry_after_seconds: int | None = None


_STORE: Final = Kind(503, "store-unavailable", "Store unavailable", RETRY_AFTER_SECONDS)

KINDS: Final[Mapping[type[Exception], Kind]] = {
    MalformedBodyError: Kind(400, "malformed-body", "Malformed body"),
    VersionNotFoundError: Kind(404, "unknown-version", "Unknown version"),
    NotAcceptableError: Kind(406, "not-acceptable", "Not acceptable"),
    BatchTooLargeError: Kind(413, "too-many-rows", "Too many rows"),
    BodyTooLargeError: Kind(413, "body-too-large", "Body too large"),
    UnsupportedMediaTypeError: Kind(415, "unsupported-media-type", "Unsupported media type"),
    EncodedBodyError: Kind(415, "unsupported-encoding", "Unsupported content encoding"),
    InvalidFieldsError: Kind(422, "invalid-fields", "Invalid fields"),
    ClientGoneError: Kind(CLIENT_CLOSED_REQUEST, "client-gone", "Client closed request"),
    VersionNotReadyError: Kind(503, "version-not-ready", "Version not ready", RETRY_AFTER_SECONDS),
    ServiceNotReadyError: Kind(503, "not-ready", "Not ready", RETRY_AFTER_SECONDS),
    StoreError: _STORE,
}
"""The nearest class in an error's ancestry decides."""

_UNFORESEEN: Final = Kind(500, "internal-error", "Internal error")


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that tells of an error."""

    status: int
    title: str
    detail: str
    name: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the JSON document."""
        kind = "about:blank" if self.name is None else TYPE_PREFIX + self.name
        return orjson.dumps(
            {
                "type": kind,
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                **self.extra,
            }
        )


def problem_of(error: Exception) -> Problem:
    """Return how an error is told; one that nobody foresaw is told without its details."""
    kind = next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), _UNFORESEEN)
    if kind is _UNFORESEEN:
        detail = "the service failed; its log says why, under the id in X-Request-ID"
        return Problem(kind.status, kind.title, detail, kind.name)
    headers = {}
    if kind.retry_after_seconds is not None:
        headers["retry-after"] = str(kind.retry_after_seconds)
    return Problem(kind.status, kind.title, str(error), kind.name, _extra(error), headers)


def problem_of_status(status: int, detail: str, headers: Mapping[str, str]) -> Problem:
    """Return how a bare HTTP status is told, such as that of a path that does not exist."""
    return Problem(status, HTTPStatus(status).phrase, detail, headers=headers)


def _extra(error: Exception) -> dict[str, Any]:
    if isinstance(error, InvalidFieldsError):
        return {"errors": [{"field": e.field, "detail": e.detail} for e in error.errors]}
    if isinstance(error, VersionNotFoundError):
        return {"versions": list(error.known)}
    return {}
