"""Questions as requests, and answers read: what of a lying service shows, is an error here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from gkc import safetensors
from gkc.arrays import Array
from gkc.center.question import Columns, Pointers, Question
from gkc.center.tensors import tensors_of
from gkc.client.knowledge import Knowledge
from gkc.client.service_connection import Response
from gkc.client.service_factored import fault_of_tensors, rows_of
from gkc.errors import (
    BatchTooLargeError,
    FieldError,
    GkcError,
    InvalidFieldsError,
    MalformedBodyError,
    ServiceError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from gkc.knowledge import ABSENT, DEFAULT, FOUND, PARTS, SAFETENSORS, Part
from gkc.problem import KINDS, MEDIA_TYPE
from gkc.strings import Ids

JSON: Final = "application/json"
_KNOWLEDGE_DTYPES: Final = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2")}
_STATUSES: Final = bytes([ABSENT, FOUND, DEFAULT])
_LONGEST_TIMEOUT_MS: Final = 600_000
_MOST_SHOWN: Final = 200
_CLASS_OF_TYPE: Final = {kind.type: cls for cls, kind in KINDS.items() if cls is not Exception}


class Request(Struct, frozen=True):
    """A request to whichever address.

    Attributes
    ----------
    method, path : str
    headers : str
        Lines that are the same for every address.
    body : bytes
    rows : int
        How many rows it asks for.
    """

    method: str
    path: str
    headers: str
    body: bytes = b""
    rows: int = 0

    def to(
        self, host_header: str, prefix: str, timeout_seconds: float, api_key: str | None = None
    ) -> bytes:
        """Return the bytes that go to one address, with what is left of the time."""
        left_ms = min(max(1, int(timeout_seconds * 1000)), _LONGEST_TIMEOUT_MS)
        credentials = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        head = (
            f"{self.method} {prefix}{self.path} HTTP/1.1\r\nHost: {host_header}\r\n"
            f"X-Request-Timeout-Ms: {left_ms}\r\n{credentials}{self.headers}\r\n"
        )
        return head.encode("ascii") + self.body


class _Task(Struct):
    name: str
    dim: int


class _Listed(Struct):
    version: str
    generation: str
    dim: int
    category_dim: int
    dtype: str
    previous: str | None = None
    vector_space: str | None = None
    checksum: str | None = None
    tasks: Sequence[_Task] = ()
    task_weights: list[list[float]] | dict[str, list[float]] = []


class _List(Struct):
    versions: list[_Listed]


class _Problem(Struct):
    type: str
    title: str
    detail: str
    errors: Sequence[FieldError] = ()
    versions: Sequence[str] = ()
    max_rows: int = 0


VERSIONS_REQUEST: Final = Request("GET", "/versions", f"Accept: {JSON}\r\n")


def knowledge_request(question: Question) -> Request:
    """Return the request that asks a question, in safetensors."""
    columns = question.columns
    tensors = tensors_of("u", _users(columns)) | tensors_of("i", columns.items)
    if columns.categories is not None and columns.has_category is not None:
        tensors |= tensors_of("c", columns.categories)
        if not columns.has_category.all():
            tensors["c_given"] = columns.has_category.view(np.uint8)
    versions = columns.versions
    if len(versions) == 1:
        metadata = {"v": versions[0]}
    else:
        metadata = {"v": _text([versions[place] for place in columns.version_index.tolist()])}
    if question.parts != PARTS:
        metadata["parts"] = _text(question.parts)
    if question.dtype != "f32":
        metadata["dtype"] = question.dtype
    if question.layout != "rows":
        metadata["layout"] = question.layout
    if question.allow_stale:
        metadata["allow_stale"] = _text(question.allow_stale)
    body = b"".join(safetensors.dump(tensors, metadata))
    headers = (
        f"Accept: {SAFETENSORS}\r\nContent-Type: {SAFETENSORS}\r\nContent-Length: {len(body)}\r\n"
    )
    return Request("POST", "/knowledge", headers, body, columns.n)


def _users(columns: Columns) -> Ids:
    """Return the users; one for each row if nothing else on the wire says how many rows."""
    users, n = columns.users, columns.n
    lengths = {len(users), len(columns.items)}
    if columns.categories is not None:
        lengths.add(len(columns.categories))
    if n not in lengths:
        return users[np.zeros(n, dtype=np.int64)]
    return users


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def read_answer(question: Question, response: Response) -> Knowledge:
    """Read the answer to a question.

    Raises
    ------
    ServiceError
        If the answer cannot be one to this question.
    GkcError
        What the service tells instead of an answer.
    """
    if response.status != HTTPStatus.OK:
        raise error_told(response, question)
    _check_type(response, SAFETENSORS)
    try:
        tensors, metadata = safetensors.load(response.body.data)
        told_age = metadata.get("age")
        age = None if told_age is None else msgspec.json.decode(told_age, type=float)
        head = _head(
            metadata.get("versions", ""),
            metadata.get("parts", ""),
            question.columns.versions,
            question.parts,
        )
    except (MalformedBodyError, msgspec.DecodeError) as error:
        raise _lie(response, f"its answer cannot be read: {error}") from error
    is_rows = question.layout == "rows"
    fault_of_rest = _fault_of_rows if is_rows else fault_of_tensors
    if fault := (
        head.fault
        or _fault_of_status(question, tensors)
        or fault_of_rest(question, tensors, head.parts)
    ):
        raise _lie(response, fault)
    rows: Any = tensors["knowledge"] if is_rows else rows_of(question, tensors, head.parts)
    status: Any = tensors["status"]
    return Knowledge(rows, status, head.parts, head.versions, age=age)


class _Head(Struct, frozen=True):
    """What the metadata say, and what of it does not fit the question, if anything."""

    versions: Mapping[str, str]
    parts: Mapping[str, tuple[int, int]]
    fault: str


@lru_cache(maxsize=1024)
def _head(
    versions_text: str, parts_text: str, asked: tuple[str, ...], asked_parts: tuple[Part, ...]
) -> _Head:
    """Read the metadata; few are different among many answers."""
    versions = msgspec.json.decode(versions_text, type=dict[str, str])
    parts = msgspec.json.decode(parts_text, type=dict[str, tuple[int, int]])
    fault = _fault_of_versions(versions, asked) or _fault_of_parts(
        parts, asked_parts if asked else ()
    )
    return _Head(MappingProxyType(versions), MappingProxyType(parts), fault)


def _fault_of_versions(versions: Mapping[str, str], asked: tuple[str, ...]) -> str:
    if versions.keys() != set(asked):
        return f"it answers for versions {_listed(versions)}, but {_listed(asked)} was asked"
    return "" if all(versions.values()) else "it names no generation"


def _fault_of_parts(parts: Mapping[str, tuple[int, int]], asked: tuple[Part, ...]) -> str:
    if tuple(parts) != asked:
        return f"it has the parts {_listed(parts)}, but {_listed(asked)} were asked"
    ends = [0, *(end for _, end in parts.values())]
    starts = [start for start, _ in parts.values()]
    widths = {end - start for part, (start, end) in parts.items() if part != "user_category"}
    if starts != ends[:-1] or any(a > b for a, b in pairwise(ends)) or len(widths) > 1:
        return f"its parts do not lie side by side: {dict(parts)}"
    return ""


def _fault_of_status(question: Question, tensors: Mapping[str, Array]) -> str:
    """Say what of the statuses does not fit, if anything."""
    status = tensors.get("status")
    if status is None:
        return f"it holds the tensors {_listed(tensors)}, and no status"
    if status.dtype != np.uint8 or status.shape != (question.columns.n, len(PARTS)):
        return f"its status is {status.dtype} of shape {list(status.shape)}"
    strange = status.tobytes().translate(None, _STATUSES)
    return f"its status holds {strange[0]}" if strange else ""


def _fault_of_rows(
    question: Question, tensors: Mapping[str, Array], parts: Mapping[str, tuple[int, int]]
) -> str:
    """Say what of the rows does not fit the question or the parts, if anything."""
    if tensors.keys() != {"knowledge", "status"}:
        return f"it holds the tensors {_listed(tensors)}, not knowledge and status"
    shape = question.columns.n, max((end for _, end in parts.values()), default=0)
    knowledge, dtype = tensors["knowledge"], _KNOWLEDGE_DTYPES[question.dtype]
    if knowledge.dtype != dtype or knowledge.shape != shape:
        return (
            f"its knowledge is {knowledge.dtype} of shape {list(knowledge.shape)}, "
            f"not {dtype} of shape {list(shape)}"
        )
    return ""


def read_versions(response: Response) -> dict[str, Any]:
    """Read the answer to ``GET /versions``.

    Raises
    ------
    ServiceError
        If it is none.
    GkcError
        What the service tells instead.
    """
    if response.status != HTTPStatus.OK:
        raise error_told(response)
    _check_type(response, JSON)
    try:
        msgspec.json.decode(response.body.data, type=_List)
        listed: dict[str, Any] = msgspec.json.decode(response.body.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _lie(response, f"its list of versions cannot be read: {error}") from error
    return listed


def error_told(response: Response, question: Question | None = None) -> GkcError:
    """Return the error that an answer tells of."""
    if response.content_type == MEDIA_TYPE:
        try:
            problem = msgspec.json.decode(response.body.data, type=_Problem)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _not_understood(response)
        return _error_of(problem, response, question)
    return _not_understood(response)


def _error_of(problem: _Problem, response: Response, question: Question | None) -> GkcError:
    told = {
        "status": response.status,
        "title": problem.title,
        "retry_after": retry_after_seconds(response),
    }
    cls = _CLASS_OF_TYPE.get(problem.type)
    if cls is None or not issubclass(cls, GkcError):
        error = ServiceError(response.address.url, f"{problem.title}: {problem.detail}")
        error.__dict__.update(told)
        return error
    if cls is InvalidFieldsError and question is not None:
        problem = _as_asked(problem, question.columns.pointers)
    facts = _facts(cls, problem, question)
    return cls.as_told(problem.detail, **told, **facts)


def _as_asked(problem: _Problem, pointers: Pointers) -> _Problem:
    """Return a problem that points at single values where they were asked: tensors are lists."""
    for pointer in pointers:
        sent = f"{pointer}/0"
        if [error.field for error in problem.errors] == [sent]:
            reason = problem.errors[0].detail
            errors = (FieldError(pointer, reason),)
            return replace(problem, detail=f"{pointer} {reason}", errors=errors)
    return problem


def _facts(cls: type[GkcError], problem: _Problem, question: Question | None) -> dict[str, Any]:
    """Return the facts that a class keeps, as far as the problem and the question tell them."""
    asked = question.columns.versions if question else ()
    if cls is InvalidFieldsError:
        return {"errors": tuple(problem.errors)}
    if cls is VersionNotFoundError:
        unknown = [version for version in asked if version not in problem.versions]
        return {"version": next(iter(unknown), ""), "known": tuple(problem.versions)}
    if cls is BatchTooLargeError:
        return {"rows": question.columns.n if question else 0, "max_rows": problem.max_rows}
    if cls is VersionNotReadyError:
        return {"version": asked[0] if len(asked) == 1 else "", "cause": problem.detail}
    return {}


def retry_after_seconds(response: Response) -> float | None:
    """Return after how long to ask again, if the answer says so in seconds."""
    given = response.headers.get(b"retry-after", b"").decode("latin-1").strip()
    return float(given) if given.isascii() and given.isdigit() else None


def _check_type(response: Response, expected: str) -> None:
    named = response.headers.get(b"content-type", b"").decode("latin-1")
    if named == expected and b"content-encoding" not in response.headers:  # the usual answer
        return
    encoding = response.headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
    if encoding != "identity":
        raise _lie(response, f"its answer is encoded as {encoding}, which nobody asked for")
    if response.content_type != expected:
        raise _lie(response, f"it answers {response.content_type or 'no type'}, not {expected}")


def _not_understood(response: Response) -> ServiceError:
    text = bytes(response.body[:_MOST_SHOWN]).decode("utf-8", "replace")
    shown = " ".join(text.split()) or "nothing"
    error = _lie(response, f"it answers status {response.status} and says {shown!r}")
    error.status = response.status
    error.retry_after = retry_after_seconds(response)
    return error


def _lie(response: Response, reason: str) -> ServiceError:
    return ServiceError(response.address.url, reason)


def _listed(names: Sequence[str] | Mapping[str, Any] | set[Part]) -> str:
    return ", ".join(names) or "none"
