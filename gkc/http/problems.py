"""Errors → RFC 9457 problem details: one table, the only place that knows HTTP statuses.

``/openapi.json`` says what it says of errors from this table, `docs/http.md` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec

from gkc import errors
from gkc.http.schemas import ProblemDetails

MEDIA_TYPE: Final = "application/problem+json"
BLANK: Final = "about:blank"
"""The type of a problem of which its status says all."""
_RETRY_AFTER_SECONDS: Final = 1
CLIENT_CLOSED_REQUEST: Final = 499
"""No standard status: nobody reads this answer, but metrics and logs name it."""
TYPE_PREFIX: Final = "urn:gkc:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table: how one class of errors is told, and when it is."""

    status: int
    name: str
    title: str
    when: str
    retry_after_seconds: int | None = None

    @property
    def type(self) -> str:
        """The URI that names this kind."""
        return TYPE_PREFIX + self.name


KINDS: Final[Mapping[type[Exception], Kind]] = {
    errors.MalformedBodyError: Kind(
        400, "malformed-body", "Malformed body", "the body is not JSON, or not safetensors"
    ),
    errors.VersionNotFoundError: Kind(
        404, "unknown-version", "Unknown version", "no such version; `versions` lists what there is"
    ),
    errors.NotAcceptableError: Kind(
        406, "not-acceptable", "Not acceptable", "`Accept` allows no type that is answered"
    ),
    errors.BatchTooLargeError: Kind(
        413, "too-many-rows", "Too many rows", "more rows than `GKC_MAX_ROWS`"
    ),
    errors.BodyTooLargeError: Kind(
        413, "body-too-large", "Body too large", "more bytes than `GKC_MAX_BODY_BYTES`"
    ),
    errors.UnsupportedMediaTypeError: Kind(
        415,
        "unsupported-media-type",
        "Unsupported media type",
        "`Content-Type` names a type that is not read",
    ),
    errors.EncodedBodyError: Kind(
        415,
        "unsupported-encoding",
        "Unsupported content encoding",
        "`Content-Encoding`: bodies are sent uncompressed",
    ),
    errors.InvalidFieldsError: Kind(
        422,
        "invalid-fields",
        "Invalid fields",
        "fields that are missing, unknown, misplaced or of unequal lengths, each named in "
        "`errors`, or a wrong value, the first one named; also `f16` that could overflow, versions "
        "of unequal widths, `factored` as JSON or for several versions",
    ),
    errors.ClientGoneError: Kind(
        CLIENT_CLOSED_REQUEST,
        "client-gone",
        "Client closed request",
        "the caller hung up: only in metrics and logs",
    ),
    Exception: Kind(
        500,
        "internal-error",
        "Internal error",
        "a fault of the service; its log says which, under the id in `X-Request-ID`",
    ),
    errors.VersionNotReadyError: Kind(
        503,
        "version-not-ready",
        "Version not ready",
        "published, but still being loaded; see `Retry-After`",
        _RETRY_AFTER_SECONDS,
    ),
    errors.ServiceNotReadyError: Kind(
        503,
        "not-ready",
        "Not ready",
        "the store was not read yet, or a version that there was at start cannot be served yet, or "
        "there is none; see `Retry-After`",
        _RETRY_AFTER_SECONDS,
    ),
    errors.StoreError: Kind(
        503,
        "store-unavailable",
        "Store unavailable",
        "the store is away, or lost something; see `Retry-After`",
        _RETRY_AFTER_SECONDS,
    ),
}
"""The nearest class in an error's ancestry decides; any other error is an `Exception`."""

BARE_STATUSES: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.TEMPORARY_REDIRECT: "a path with a slash too many, such as `/knowledge/`; "
    "`Location` is relative",
    HTTPStatus.BAD_REQUEST: "what came is no HTTP/1.1 request; the connection is closed",
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
    kind = next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)
    if kind is KINDS[Exception]:
        detail = "the service failed; its log says why, under the id in X-Request-ID"
    else:
        detail = str(error)
    headers = {}
    if kind.retry_after_seconds is not None:
        headers["retry-after"] = str(kind.retry_after_seconds)
    details = ProblemDetails(kind.type, kind.title, kind.status, detail, **_extra(error))
    return Problem(details, headers)


def problem_of_status(status: int, detail: str, headers: Mapping[str, str]) -> Problem:
    """Return how a bare HTTP status is told, such as that of a path that does not exist."""
    return Problem(ProblemDetails(BLANK, HTTPStatus(status).phrase, status, detail), headers)


def _extra(error: Exception) -> dict[str, Any]:
    if isinstance(error, errors.InvalidFieldsError):
        return {"errors": error.errors}
    if isinstance(error, errors.VersionNotFoundError):
        return {"versions": list(error.known)}
    return {}
