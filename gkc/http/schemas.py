"""What requests and answers are made of, as types; ``/openapi.json`` is made from them.

Columns are decoded by their type (`gkc.http.decoding`), problems are encoded by theirs. The type of
an answer only describes: its rows are written straight from an array.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gkc.center.question import AnswerType, Layout
from gkc.errors import FieldError
from gkc.http.negotiation import SAFETENSORS
from gkc.knowledge import PARTS, Part
from gkc.strings import MAX_STRING_BYTES

Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, extra_json_schema={"format": "int64"})]
# Only described: how many bytes it has is checked for a column at once.
StringId = Annotated[
    str,
    Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_STRING_BYTES}),
]
AnyId = Id | StringId
Ids = AnyId | list[AnyId]
CategoryIds = AnyId | list[AnyId | None] | None
# Only described: that a name fits is checked once a distinct name, not once a row.
Version = Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9._-]{1,64}$"})]

_OWN_CATEGORY: Final = "Left out or null: the item's own exported category."
_ID_TYPES: Final = "Integers or strings, as the version has them; a string has 1 to 128 bytes."


Parts = Annotated[
    tuple[Part, ...],
    Meta(min_length=1, description=f"Always laid out in this order: {', '.join(PARTS)}."),
]
ElementType = Annotated[AnswerType, Meta(description="Element type of the answered rows.")]
RowLayout = Annotated[
    Layout, Meta(description=f"`factored` saves bytes; only with `Accept: {SAFETENSORS}`.")
]

AllowStale = Annotated[
    float,
    Meta(
        ge=0,
        description="How many seconds old an answer may be while the store is away: it is given "
        "if all of it is held here, and says its `age`.",
    ),
]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all that a request holds: a field that is not known is refused."""


class Columns(Request, frozen=True, kw_only=True):
    """One value for all rows, or one a row; lists of one value are broadcast."""

    u: Annotated[Ids, Meta(description=f"Users. {_ID_TYPES}")]
    i: Annotated[Ids, Meta(description=f"Items. {_ID_TYPES}")]
    c: Annotated[CategoryIds, Meta(description=f"Categories. {_OWN_CATEGORY} {_ID_TYPES}")] = None
    v: Annotated[Version | list[Version], Meta(description="Versions.")]
    parts: Parts = PARTS
    dtype: ElementType = "f32"
    layout: RowLayout = "rows"
    allow_stale: AllowStale = 0.0


class ColumnsAsText(Request, frozen=True, kw_only=True):
    """`Columns` whose ids are still JSON text."""

    u: Raw
    i: Raw
    c: Raw = Raw(b"null")
    v: Version | list[Version]
    parts: Parts = PARTS
    dtype: ElementType = "f32"
    layout: RowLayout = "rows"
    allow_stale: AllowStale = 0.0


class Quadruple(Request, frozen=True, kw_only=True):
    """One row: a user, an item, perhaps a category, and a version."""

    u: AnyId
    i: AnyId
    c: Annotated[AnyId | None, Meta(description=_OWN_CATEGORY)] = None
    v: Version


class Quadruples(Request, frozen=True, kw_only=True):
    """One object a row."""

    quadruples: list[Quadruple]
    parts: Parts = PARTS
    dtype: ElementType = "f32"
    layout: RowLayout = "rows"
    allow_stale: AllowStale = 0.0


class Metadata(Request, frozen=True, kw_only=True):
    """The metadata of a request in safetensors; a list is JSON text."""

    v: Annotated[Version | list[Version], Meta(description="One for all rows, or one a row.")]
    parts: Parts = PARTS
    dtype: ElementType = "f32"
    layout: RowLayout = "rows"
    allow_stale: AllowStale = 0.0


class Knowledge(Struct, frozen=True):
    """The rows, in the order asked."""

    versions: Annotated[
        dict[str, str], Meta(description="The generation that answered for each version.")
    ]
    parts: Annotated[
        dict[Part, Annotated[list[int], Meta(min_length=2, max_length=2)]],
        Meta(description="First and end column of each part."),
    ]
    knowledge: Annotated[list[list[float]], Meta(description="One row of numbers a row asked for.")]
    status: Annotated[
        list[Annotated[list[Literal[0, 1, 2]], Meta(min_length=len(PARTS), max_length=len(PARTS))]],
        Meta(description=f"Of {', '.join(PARTS)}: 0 absent, 1 found, 2 the default vector."),
    ]
    age: Annotated[
        float | UnsetType,
        Meta(
            description="Only while the store is away: seconds since it was last asked which "
            "generation is current."
        ),
    ] = UNSET


class StoreOutage(Struct, frozen=True):
    """Since when the catalogue could not be read."""

    reachable: Annotated[
        bool, Meta(description="Whether the store answers; its catalogue is lost.")
    ]
    since_seconds: float
    detail: str


class Health(Struct, frozen=True, omit_defaults=True):
    """That the process lives, or can answer; degraded, if the store that all share is away."""

    status: Literal["alive", "ready", "degraded"]
    store: StoreOutage | None = None


class ProblemDetails(Struct, frozen=True):
    """RFC 9457 problem details."""

    type: Annotated[str, Meta(extra_json_schema={"format": "uri-reference"})]
    title: str
    status: int
    detail: str
    errors: Annotated[
        list[FieldError] | UnsetType,
        Meta(
            description="With 422: each field that is missing, unknown, misplaced or of another "
            "length; else the first wrong value, such as that at `/i/3`."
        ),
    ] = UNSET
    versions: Annotated[
        list[str] | UnsetType, Meta(description="With 404: the versions that there are.")
    ] = UNSET
    max_rows: Annotated[
        int | UnsetType, Meta(description="With 413, of too many rows: the most that are answered.")
    ] = UNSET
