"""The kinds of errors as a service tells them: class ↔ HTTP status, type and title; one table.

`gkc.http.problems` writes problem details (RFC 9457) by it, a client reads them by it,
``/openapi.json`` and `docs/http.md` show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gkc.errors import (
    BatchTooLargeError,
    BodyTooLargeError,
    ClientGoneError,
    DeadlineExceededError,
    EncodedBodyError,
    HeadTooLargeError,
    InvalidFieldsError,
    InvalidHeaderError,
    MalformedBodyError,
    NotAcceptableError,
    OverloadedError,
    ServiceNotReadyError,
    SlowReaderError,
    SlowRequestError,
    StoreError,
    TooManyVersionsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    UrlTooLongError,
    VersionNotFoundError,
    VersionNotReadyError,
)

MEDIA_TYPE: Final = "application/problem+json"
_RETRY_AFTER_SECONDS: Final = (1, 2, 3)
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
    retry_after_seconds: Sequence[int] = ()
    """One of these at random, so that those who were refused together do not come back so."""
    is_limit: bool = False
    """Whether it protects the others from one caller; counted as ``gkc_rejected_total``."""

    @property
    def type(self) -> str:
        """The URI that names this kind."""
        return TYPE_PREFIX + self.name


KINDS: Final[Mapping[type[Exception], Kind]] = {
    MalformedBodyError: Kind(
        400, "malformed-body", "Malformed body", "the body is not JSON, or not safetensors"
    ),
    InvalidHeaderError: Kind(
        400,
        "invalid-header",
        "Invalid header",
        "`X-Request-Timeout-Ms` is no whole number from 1 to 600000, or comes twice",
    ),
    UnauthorizedError: Kind(
        401,
        "unauthorized",
        "Unauthorized",
        "a key is asked for, and `Authorization: Bearer KEY` is missing or shows none that is let "
        "in; or a certificate, and there is none",
    ),
    SlowRequestError: Kind(
        408,
        "slow-request",
        "Slow request",
        "the request does not arrive in time; the connection is closed",
        is_limit=True,
    ),
    VersionNotFoundError: Kind(
        404, "unknown-version", "Unknown version", "no such version; `versions` lists what there is"
    ),
    NotAcceptableError: Kind(
        406, "not-acceptable", "Not acceptable", "`Accept` allows no type that is answered"
    ),
    BatchTooLargeError: Kind(
        413,
        "too-many-rows",
        "Too many rows",
        "more rows than `GKC_MAX_ROWS`, or values than those need; `max_rows` says how many are "
        "answered",
        is_limit=True,
    ),
    TooManyVersionsError: Kind(
        413,
        "too-many-versions",
        "Too many versions",
        "more distinct versions than one request may name",
        is_limit=True,
    ),
    BodyTooLargeError: Kind(
        413,
        "body-too-large",
        "Body too large",
        "more bytes than `GKC_MAX_BODY_BYTES`",
        is_limit=True,
    ),
    UrlTooLongError: Kind(
        414,
        "url-too-long",
        "URL too long",
        "the URL is longer than is read; the connection is closed",
        is_limit=True,
    ),
    UnsupportedMediaTypeError: Kind(
        415,
        "unsupported-media-type",
        "Unsupported media type",
        "`Content-Type` names a type that is not read",
    ),
    EncodedBodyError: Kind(
        415,
        "unsupported-encoding",
        "Unsupported content encoding",
        "`Content-Encoding`: bodies are sent uncompressed",
    ),
    InvalidFieldsError: Kind(
        422,
        "invalid-fields",
        "Invalid fields",
        "fields that are missing, unknown, misplaced or of unequal lengths, each named in "
        "`errors`, or a wrong value, the first one named; also `f16` that could overflow, versions "
        "of unequal widths, ids of another type than the version has, `factored` as JSON or for "
        "several versions",
    ),
    HeadTooLargeError: Kind(
        431,
        "head-too-large",
        "Request head too large",
        "the head is larger, or has more headers, than is read (the connection is closed), or "
        "`Accept` is longer",
        is_limit=True,
    ),
    SlowReaderError: Kind(
        CLIENT_CLOSED_REQUEST,
        "slow-reader",
        "Slow reader",
        "the caller does not read its answer, and is cut off: only in metrics",
        is_limit=True,
    ),
    ClientGoneError: Kind(
        CLIENT_CLOSED_REQUEST,
        "client-gone",
        "Client closed request",
        "the caller hung up: only in metrics",
    ),
    Exception: Kind(
        500,
        "internal-error",
        "Internal error",
        "a fault of the service; its log says which, under the id in `X-Request-ID`",
    ),
    VersionNotReadyError: Kind(
        503,
        "version-not-ready",
        "Version not ready",
        "published, but still being loaded; see `Retry-After`",
        _RETRY_AFTER_SECONDS,
    ),
    ServiceNotReadyError: Kind(
        503,
        "not-ready",
        "Not ready",
        "the store was not read yet, or a version that there was at start cannot be served yet, or "
        "there is none, or the service is being stopped; see `Retry-After`",
        _RETRY_AFTER_SECONDS,
    ),
    StoreError: Kind(
        503,
        "store-unavailable",
        "Store unavailable",
        "the store is away, or lost something; see `Retry-After`",
        _RETRY_AFTER_SECONDS,
    ),
    OverloadedError: Kind(
        503,
        "overloaded",
        "Overloaded",
        "more is asked for at once than can be answered soon, or answers as large as this one "
        "would be hold all the memory that there is for them; see `Retry-After`",
        _RETRY_AFTER_SECONDS,
        is_limit=True,
    ),
    DeadlineExceededError: Kind(
        504,
        "deadline-exceeded",
        "Deadline exceeded",
        "no answer within `X-Request-Timeout-Ms` or `GKC_REQUEST_TIMEOUT_MS`, whichever is less",
        is_limit=True,
    ),
}
"""The nearest class in an error's ancestry decides; any other error is an `Exception`."""


def kind_of(error: Exception) -> Kind:
    """Return how an error is told."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)
