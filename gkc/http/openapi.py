"""What ``/openapi.json`` says: the types of requests and answers, and the table of errors.

By hand only what neither can tell: binary forms, headers, examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gkc import errors
from gkc.center.listing import VersionList
from gkc.http.deadlines import LONGEST_TIMEOUT_MS, TIMEOUT_HEADER
from gkc.http.limits import LIMITS, MAX_VERSIONS
from gkc.http.negotiation import JSON, SAFETENSORS
from gkc.http.problems import problem_of
from gkc.http.schemas import Columns, Health, Knowledge, Metadata, ProblemDetails, Quadruples
from gkc.problem import CLIENT_CLOSED_REQUEST, KINDS, MEDIA_TYPE, Kind

_TYPES: Final = (Columns, Quadruples, Metadata, Knowledge, VersionList, Health, ProblemDetails)
_REFERENCES, _SCHEMAS = msgspec.json.schema_components(
    _TYPES, ref_template="#/components/schemas/{name}"
)
_REFERENCE: Final = dict(zip(_TYPES, _REFERENCES, strict=True))

_REQUEST_ID: Final = "X-Request-ID"
_RETRY_AFTER: Final = "Retry-After"
_KEY: Final = "key"

_EXAMPLES: Final = (
    errors.MalformedBodyError("JSON", "unexpected end of data: line 1 column 9"),
    errors.VersionNotFoundError("20211221", ["20211220"]),
    errors.NotAcceptableError("text/html", [JSON, SAFETENSORS]),
    errors.BatchTooLargeError(20_000, 10_000),
    errors.TooManyVersionsError(100, MAX_VERSIONS),
    errors.BodyTooLargeError(8_388_608),
    errors.UnauthorizedError("this service answers those who show a key"),
    errors.SlowRequestError("no whole head", LIMITS.head_seconds),
    errors.UrlTooLongError(LIMITS.url_bytes),
    errors.HeadTooLargeError(f"{LIMITS.headers} headers"),
    errors.UnsupportedMediaTypeError("text/csv", [JSON, SAFETENSORS]),
    errors.EncodedBodyError("gzip"),
    errors.InvalidFieldsError("is a string, but items of version '20211220' are integers", "/i/3"),
    errors.VersionNotReadyError("20211220"),
    errors.ServiceNotReadyError("versions still to be loaded: 20211220"),
    errors.InvalidHeaderError(TIMEOUT_HEADER, "send it once, as a whole number of milliseconds"),
    errors.DeadlineExceededError("the service", 0.05, allowed_by=TIMEOUT_HEADER),
    errors.StoreUnavailableError("redis://redis:6379/0", "no answer within 500 ms"),
    errors.OverloadedError(),
    Exception(),
)
_PROBLEMS: Final = {
    problem.details.type: msgspec.to_builtins(problem.details)
    for problem in map(problem_of, _EXAMPLES)
}
"""Of each type of problem that is answered, an example."""
_STORE_ERRORS: Final = (errors.ServiceNotReadyError, errors.StoreError)

_ANSWER: Final = {
    "versions": {"20211220": "0000000001-9f971579"},
    "parts": {"user": [0, 2], "item": [2, 4], "user_item": [4, 6], "user_category": [6, 7]},
    "knowledge": [[0.5, -1.0, 2.0, 0.25, 1.0, -0.25, 0.125], [0.5, -1.0, 0, 0, 0, 0, 0.125]],
    "status": [[1, 1, 1, 1], [1, 0, 0, 1]],
}

COMPONENTS: Final[dict[str, Any]] = {
    "schemas": _SCHEMAS,
    "headers": {
        _REQUEST_ID: {
            "description": "The caller's, if it sent one; logs name the request by it.",
            "schema": {"type": "string"},
        },
        _RETRY_AFTER: {
            "description": "Seconds after which to ask again.",
            "schema": {"type": "integer"},
        },
    },
    "securitySchemes": {
        _KEY: {"type": "http", "scheme": "bearer", "description": "What `gkc key new` printed."}
    },
    "parameters": {
        _REQUEST_ID: {
            "name": _REQUEST_ID,
            "in": "header",
            "description": "Names the request, in the answer and in logs; else one is made up.",
            "schema": {"type": "string"},
        },
        TIMEOUT_HEADER: {
            "name": TIMEOUT_HEADER,
            "in": "header",
            "description": "Milliseconds after which the caller does not want the answer any more; "
            "the service may allow less.",
            "schema": {"type": "integer", "minimum": 1, "maximum": LONGEST_TIMEOUT_MS},
        },
    },
}
"""All that is defined once and referred to."""

SECURITY: Final[Sequence[Mapping[str, Sequence[str]]]] = [{_KEY: []}, {}]
"""Of all operations: a key where the service asks for keys, else nothing."""


def _operation(
    name: str,
    tag: str,
    summary: str,
    responses: dict[str, Any],
    *headers: str,
    **more: object,
) -> dict[str, Any]:
    """Return an operation: what clients made from the document call it, what it is listed under."""
    return {
        "summary": summary,
        "operationId": name,
        "tags": [tag],
        "parameters": [
            {"$ref": f"#/components/parameters/{name}"} for name in (_REQUEST_ID, *headers)
        ],
        **more,
        "responses": responses,
    }


def _responses(
    when_well: str, content: dict[str, Any], *refusals: type[Exception]
) -> dict[str, Any]:
    """Return the responses of an operation.

    Parameters
    ----------
    when_well : str
        What it answers when all is well.
    content : object
        The media types that it answers with.
    refusals : type of Exception
        Those of `KINDS` that may come instead, besides one that nobody foresaw.
    """
    by_status: dict[int, list[Kind]] = {}
    for kind in map(KINDS.__getitem__, (*refusals, Exception)):
        by_status.setdefault(kind.status, []).append(kind)
    return {
        "200": {"description": when_well, "headers": _headers(_REQUEST_ID), "content": content},
        **{str(status): _refusal(by_status[status]) for status in sorted(by_status)},
    }


def _json_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the content of JSON that holds a type of `gkc.http.schemas`."""
    return {JSON: {"schema": _REFERENCE[kind]}}


def _refusal(kinds: Sequence[Kind]) -> dict[str, Any]:
    """Return the response of one status, whichever kind of error it tells of."""
    examples = {kind.name: {"summary": kind.title, "value": _PROBLEMS[kind.type]} for kind in kinds}
    retries = any(kind.retry_after_seconds for kind in kinds)
    return {
        "description": "\n".join(f"- `{kind.type}`: {kind.when}" for kind in kinds),
        "headers": _headers(_REQUEST_ID, *([_RETRY_AFTER] if retries else [])),
        "content": {MEDIA_TYPE: {"schema": _REFERENCE[ProblemDetails], "examples": examples}},
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _binary(description: str) -> dict[str, Any]:
    return {
        SAFETENSORS: {"schema": {"type": "string", "format": "binary", "description": description}}
    }


KNOWLEDGE: Final[dict[str, Any]] = {
    "post": _operation(
        "askKnowledge",
        "knowledge",
        "Knowledge of (user, item, category, version) rows",
        _responses(
            "The rows, in the order asked.",
            {JSON: {**_json_of(Knowledge)[JSON], "example": _ANSWER}}
            | _binary("Tensors, and what they mean as metadata."),
            *(
                error
                for error, kind in KINDS.items()
                if kind.status != CLIENT_CLOSED_REQUEST and error is not Exception
            ),
        ),
        TIMEOUT_HEADER,
        description=(
            f"As {SAFETENSORS}, a request has I64 tensors `u`, `i` and perhaps `c`, each [n] or "
            "[1], and as metadata `v` (a name, or a JSON array of n names), `parts` (a JSON "
            "array), `dtype` and `layout`. Strings are a U8 tensor `u` of all their bytes and an "
            "I64 tensor `u_offsets`, [n + 1] or [2], of where each begins and the last one ends; "
            "`i` and `c` alike. A U8 tensor `c_given`, [n], is 1 where a category is given. "
            "An answer has tensors `knowledge` [n, width] and "
            "`status` [n, 4], or with `layout` `factored` distinct vectors and row indexes; "
            "metadata `versions` and `parts` are JSON text."
        ),
        requestBody={
            "required": True,
            "content": {
                JSON: {
                    "schema": {"oneOf": [_REFERENCE[Columns], _REFERENCE[Quadruples]]},
                    "examples": {
                        "columns": {
                            "summary": "One user, three items",
                            "value": {"u": 7, "i": [11, 12, 13], "c": [3, 3, 5], "v": "20211220"},
                        },
                        "strings": {
                            "summary": "Where ids are strings",
                            "value": {"u": "ann", "i": ["tea", "Kännchen"], "v": "names-20211220"},
                        },
                        "quadruples": {
                            "summary": "Two rows, of a part alone",
                            "value": {
                                "quadruples": [
                                    {"u": 7, "i": 11, "c": 3, "v": "20211220"},
                                    {"u": 8, "i": 12, "v": "20211220"},
                                ],
                                "parts": ["user_item"],
                            },
                        },
                    },
                },
                **_binary("Tensors, and metadata as the schema `Metadata` says."),
            },
        },
    )
}
"""The path item of ``/knowledge``, which does not pass through FastAPI."""

OPERATIONS: Final[Mapping[str, dict[str, Any]]] = {
    "/versions": _operation(
        "listVersions",
        "versions",
        "The versions that are served",
        _responses(
            "Every version.",
            _json_of(VersionList),
            errors.UnauthorizedError,
            errors.OverloadedError,
            *_STORE_ERRORS,
        ),
    ),
    "/livez": _operation(
        "checkLiveness",
        "operations",
        "Whether the processes live",
        _responses("It lives.", _json_of(Health), errors.ServiceNotReadyError),
    ),
    "/readyz": _operation(
        "checkReadiness",
        "operations",
        "Whether every version can be served",
        _responses("It is ready.", _json_of(Health), *_STORE_ERRORS),
    ),
    "/metrics": _operation(
        "readMetrics",
        "operations",
        "Prometheus metrics",
        _responses(
            "Every metric.",
            {"text/plain": {"schema": {"type": "string"}}},
            errors.UnauthorizedError,
        ),
    ),
}
"""What GET does at every other path, besides what FastAPI reads from its function."""
