"""What ``/openapi.json`` says of ``POST /knowledge``, which does not pass through FastAPI."""

from __future__ import annotations

from typing import Any, Final

from gkc.center.question import ANSWER_TYPES, LAYOUTS
from gkc.http.negotiation import JSON, SAFETENSORS
from gkc.http.problems import MEDIA_TYPE
from gkc.knowledge import PARTS

_ID: Final[dict[str, Any]] = {"type": "integer", "format": "int64"}
_CATEGORY: Final[dict[str, Any]] = {
    "type": ["integer", "null"],
    "format": "int64",
    "description": "Left out or null: the item's own exported category.",
}
_VERSION: Final[dict[str, Any]] = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}

_OPTIONS: Final[dict[str, Any]] = {
    "parts": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": list(PARTS)},
        "default": list(PARTS),
        "description": "The parts to answer, always laid out in this order.",
    },
    "dtype": {
        "enum": list(ANSWER_TYPES),
        "default": "f32",
        "description": "Element type of the answered rows.",
    },
    "layout": {
        "enum": list(LAYOUTS),
        "default": "rows",
        "description": f"`factored` saves bytes; only with `Accept: {SAFETENSORS}`.",
    },
}


def _one_or_many(element: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [element, {"type": "array", "items": element}]}


_COLUMNAR: Final[dict[str, Any]] = {
    "title": "Columns",
    "description": "One value for all rows, or one a row; lists of one value are broadcast.",
    "type": "object",
    "required": ["u", "i", "v"],
    "additionalProperties": False,
    "properties": {
        "u": _one_or_many(_ID),
        "i": _one_or_many(_ID),
        "c": _one_or_many(_CATEGORY),
        "v": _one_or_many(_VERSION),
        **_OPTIONS,
    },
}

_QUADRUPLES: Final[dict[str, Any]] = {
    "title": "Quadruples",
    "type": "object",
    "required": ["quadruples"],
    "additionalProperties": False,
    "properties": {
        "quadruples": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["u", "i", "v"],
                "additionalProperties": False,
                "properties": {"u": _ID, "i": _ID, "c": _CATEGORY, "v": _VERSION},
            },
        },
        **_OPTIONS,
    },
}

_ANSWER: Final[dict[str, Any]] = {
    "title": "Knowledge",
    "type": "object",
    "required": ["versions", "parts", "knowledge", "status"],
    "properties": {
        "versions": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "The generation that answered for each version.",
        },
        "parts": {
            "type": "object",
            "additionalProperties": {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "integer"}],
            },
            "description": "First and end column of each part.",
        },
        "knowledge": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}},
            "description": "One row of numbers a row asked for.",
        },
        "status": {
            "type": "array",
            "items": {
                "type": "array",
                "minItems": len(PARTS),
                "maxItems": len(PARTS),
                "items": {"enum": [0, 1, 2]},
            },
            "description": f"Of {', '.join(PARTS)}: 0 absent, 1 found, 2 the default vector.",
        },
    },
}

PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "RFC 9457 problem details.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {
                    "field": {"type": "string", "description": "JSON Pointer, such as /i/3."},
                    "detail": {"type": "string"},
                },
            },
        },
        "versions": {
            "type": "array",
            "items": {"type": "string"},
            "description": "With 404: the versions that there are.",
        },
    },
}

_BINARY: Final[dict[str, Any]] = {"type": "string", "format": "binary"}
_EXAMPLE: Final[dict[str, Any]] = {"u": 7, "i": [11, 12, 13], "c": [3, 3, 5], "v": "20211220"}

_STATUSES: Final = {
    400: "Not JSON, or not safetensors.",
    404: "Unknown version; lists the versions that there are.",
    406: "No type that the caller accepts can be answered.",
    413: "Too many rows or bytes.",
    415: "A media type or a content encoding that is not read.",
    422: "Fields with wrong values, each named by its JSON Pointer.",
    503: "The store is away or damaged, or the version is not ready yet; see Retry-After.",
}

KNOWLEDGE: Final[dict[str, Any]] = {
    "post": {
        "summary": "Knowledge of (user, item, category, version) rows",
        "description": (
            f"As {SAFETENSORS}, a request has I64 tensors `u`, `i` and perhaps `c`, each [n] or "
            "[1], and as metadata `v` (a name, or a JSON array of n names), `parts` (a JSON "
            "array), `dtype` and `layout`. An answer has tensors `knowledge` [n, width] and "
            "`status` [n, 4], or with `layout` `factored` distinct vectors and row indexes; "
            "metadata `versions` and `parts` are JSON text."
        ),
        "operationId": "knowledge",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"oneOf": [_COLUMNAR, _QUADRUPLES]}, "example": _EXAMPLE},
                SAFETENSORS: {"schema": _BINARY},
            },
        },
        "responses": {
            "200": {
                "description": "The rows, in the order asked.",
                "content": {JSON: {"schema": _ANSWER}, SAFETENSORS: {"schema": _BINARY}},
            },
            **{
                str(status): {
                    "description": description,
                    "content": {MEDIA_TYPE: {"schema": PROBLEM}},
                }
                for status, description in _STATUSES.items()
            },
        },
    }
}
"""The path item of ``/knowledge``."""
