"""Wire format → columns: the first step of a request. Nothing after it looks at single rows.

Columns in JSON are decoded by their type, in a quarter less time than by hand; lists of strings are
taken out of the text, in half of that time or less. Where that fails,
and for quadruples, which it makes slower, fields are checked by hand, each as a whole; which
element is at fault is searched for only once one is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np
import orjson

from gkc import safetensors
from gkc.arrays import I64
from gkc.center.checks import (
    NO_CATEGORIES,
    Categories,
    category_array,
    choice_of,
    columns_of,
    id_array,
    parts_of,
    seconds_of,
    string_array,
    versions_of,
)
from gkc.center.question import ANSWER_TYPES, LAYOUTS, Columns, Question, in_row_order
from gkc.center.tensors import category_tensor, id_tensor
from gkc.errors import BatchTooLargeError, InvalidFieldsError, MalformedBodyError
from gkc.http import schemas
from gkc.http.json_strings import strings_in
from gkc.http.limits import refuse_many_values, refuse_unknown
from gkc.knowledge import PARTS
from gkc.strings import Ids, StringIds

_OPTIONS: Final = frozenset(("parts", "dtype", "layout", "allow_stale"))
_QUESTION: Final = frozenset("uicv")
_REQUIRED: Final = ("u", "i", "v")
_LONGEST_INT64: Final = 20

_ROW_POINTERS: Final = ("/quadruples/{}/u", "/quadruples/{}/i", "/quadruples/{}/c")
_TENSORS: Final = frozenset(("c_given", *(f"{n}{end}" for n in "uic" for end in ("", "_offsets"))))

_COLUMNS: Final = msgspec.json.Decoder(schemas.Columns)
_COLUMNS_AS_TEXT: Final = msgspec.json.Decoder(schemas.ColumnsAsText)
_IDS: Final = msgspec.json.Decoder(schemas.Ids)
_CATEGORIES: Final = msgspec.json.Decoder(schemas.CategoryIds)
_are_strings: Final = re.compile(rb'"i"\s*:\s*\[\s*"').match
"""Tells, from where the name of items is, whether they look like strings: what is faster then."""
_ONE: Final = (int, str)


def decode_json(body: bytes, max_rows: int) -> Question:
    """Decode a JSON request, columnar or as quadruples.

    Raises
    ------
    MalformedBodyError
        If the body is not JSON.
    InvalidFieldsError
        If fields are missing, unknown or misplaced, or lists differ in length: names each by its
        JSON Pointer. If there is a wrong value: names the first one.
    BatchTooLargeError
        If there are more than ``max_rows`` rows.
    """
    refuse_many_values(body, max_rows)
    request: schemas.Columns | schemas.ColumnsAsText
    try:
        if _are_strings(body, body.find(b'"i"')):
            request = _COLUMNS_AS_TEXT.decode(body)
            u, i, c = _read(request.u), _read(request.i), _read(request.c, _CATEGORIES)
        else:
            request = _COLUMNS.decode(body)
            u, i, c = request.u, request.i, request.c
    except (msgspec.MsgspecError, RecursionError):
        return _decode_checking(body, max_rows)
    pointers = (
        "/u" if isinstance(u, _ONE) else "/u/{}",
        "/i" if isinstance(i, _ONE) else "/i/{}",
        "/c" if isinstance(c, _ONE) else "/c/{}",
    )
    columns = columns_of(
        _column(u, pointers[0]),
        _column(i, pointers[1]),
        _category_column(c, pointers[2]),
        versions_of(request.v),
        max_rows,
        pointers,
    )
    parts = in_row_order(request.parts)
    return Question(columns, parts, request.dtype, request.layout, request.allow_stale)


def decode_safetensors(body: bytes, max_rows: int) -> Question:
    """Decode a safetensors request: tensors ``u``, ``i`` and perhaps ``c``; the rest metadata.

    Numbers are I64; strings are U8, all behind each other, with ``u_offsets`` and so on, I64. A
    tensor ``c_given`` (U8) says where a category is given.

    Raises
    ------
    MalformedBodyError
        If the body is not safetensors.
    InvalidFieldsError
        If tensors or metadata entries are missing or unknown, or lengths differ: names each. If
        there is a wrong value: names the first one.
    BatchTooLargeError
        If there are more than ``max_rows`` rows.
    """
    refuse_many_values(safetensors.header_of(body), max_rows)
    tensors, metadata = safetensors.load(body)
    refuse_unknown(tensors, _TENSORS)
    refuse_unknown(metadata, _OPTIONS | {"v"})
    _require({**tensors, **metadata})
    columns = columns_of(
        id_tensor("u", tensors),
        id_tensor("i", tensors),
        category_tensor(tensors),
        versions_of(_json_if_array("v", metadata["v"], max_rows)),
        max_rows,
    )
    options: dict[str, Any] = dict(metadata)
    if "parts" in options:
        options["parts"] = _json_if_array("parts", options["parts"], max_rows)
    if "allow_stale" in options:
        options["allow_stale"] = _json_if_number(options["allow_stale"])
    return _with_options(columns, options)


def _decode_checking(body: bytes, max_rows: int) -> Question:
    """Decode what is no `Columns`: quadruples, or a fault, which is to be named."""
    value = _parse(body)
    if not isinstance(value, dict):
        raise InvalidFieldsError("must be a JSON object", "")
    decode = _decode_quadruples if "quadruples" in value else _decode_columnar
    return _with_options(decode(value, max_rows), value)


def _parse(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        try:
            return _parse_leniently(body)
        except (ValueError, RecursionError):
            raise MalformedBodyError("JSON", str(exc)) from exc


def _parse_leniently(body: bytes) -> object:
    """Parse JSON that orjson takes for bad JSON: numbers beyond a double, half surrogate pairs.

    Such a number or text is a wrong value, and its field is to be named.
    """

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON")

    def integer(digits: str) -> float:
        return int(digits) if len(digits) <= _LONGEST_INT64 else math.inf

    return json.loads(body.decode(), parse_int=integer, parse_constant=refuse)


def _decode_columnar(value: Mapping[str, Any], max_rows: int) -> Columns:
    refuse_unknown(value, _QUESTION | _OPTIONS)
    _require(value)
    categories = value.get("c")
    u, i, c = (_listed(value.get(name), f"/{name}") for name in "uic")
    return columns_of(
        id_array(*u),
        id_array(*i),
        NO_CATEGORIES if categories is None else category_array(*c),
        versions_of(value["v"]),
        max_rows,
        (u[1], i[1], c[1]),
    )


def _decode_quadruples(value: Mapping[str, Any], max_rows: int) -> Columns:
    misplaced = _QUESTION & value.keys()
    if misplaced:
        raise InvalidFieldsError(
            "cannot stand beside quadruples", *(f"/{name}" for name in sorted(misplaced))
        )
    refuse_unknown(value, _OPTIONS | {"quadruples"})
    rows = value["quadruples"]
    if not isinstance(rows, list):
        raise InvalidFieldsError("must be a list of objects", "/quadruples")
    if len(rows) > max_rows:
        raise BatchTooLargeError(len(rows), max_rows)
    _check_quadruples(rows)
    u, i, c = _ROW_POINTERS
    return columns_of(
        id_array(list(map(itemgetter("u"), rows)), u),
        id_array(list(map(itemgetter("i"), rows)), i),
        category_array(list(map(dict.get, rows, repeat("c"))), c),
        versions_of(list(map(itemgetter("v"), rows)), "/quadruples/{}/v"),
        max_rows,
        _ROW_POINTERS,
    )


def _check_quadruples(rows: Sequence[Any]) -> None:
    """Check that every row is an object of u, i, v and perhaps c, and of nothing else."""
    if set(map(type, rows)) - {dict}:
        k = next(k for k, row in enumerate(rows) if not isinstance(row, dict))
        raise InvalidFieldsError("must be an object", f"/quadruples/{k}")
    for fields in dict.fromkeys(map(frozenset, rows)):
        if fields <= _QUESTION and fields.issuperset(_REQUIRED):
            continue
        k = next(k for k, row in enumerate(rows) if row.keys() == fields)
        refuse_unknown(fields, _QUESTION, f"/quadruples/{k}")
        _require(fields, f"/quadruples/{k}")


def _read(text: msgspec.Raw, decoder: msgspec.json.Decoder[Any] = _IDS) -> Any:  # noqa: ANN401
    """Return a column's values; a list of strings as their column, if they are plain."""
    raw = bytes(text)
    strings = strings_in(raw) if raw.startswith(b"[") else None
    return decoder.decode(raw) if strings is None else strings


def _column(values: int | str | list[int | str] | StringIds, pointer: str) -> Ids:
    """Return the column of ids that are known to be integers within int64, or strings."""
    if isinstance(values, StringIds):
        return values
    listed = values if isinstance(values, list) else [values]
    if listed and type(listed[0]) is str:
        return string_array(listed, pointer)
    column: I64 = np.array(listed)
    return column if column.dtype == np.int64 else id_array(listed, pointer)


def _category_column(
    values: int | str | list[int | str | None] | StringIds | None, pointer: str
) -> Categories:
    """Return the column of categories that are known to be ids or None."""
    if values is None:
        return NO_CATEGORIES
    if isinstance(values, list) and None in values:
        return category_array(values, pointer)
    ids = _column(values, pointer)  # type: ignore[arg-type]  # none is None
    return ids, np.ones(len(ids), dtype=np.bool_)


def _listed(value: object, field: str) -> tuple[list[Any], str]:
    """Return a column as a list, and the pattern of the JSON Pointer to its k-th element."""
    return (value, f"{field}/{{}}") if isinstance(value, list) else ([value], field)


def _with_options(columns: Columns, value: Mapping[str, Any]) -> Question:
    return Question(
        columns,
        parts=parts_of(value["parts"]) if "parts" in value else PARTS,
        dtype=choice_of(value.get("dtype", "f32"), ANSWER_TYPES, "/dtype"),
        layout=choice_of(value.get("layout", "rows"), LAYOUTS, "/layout"),
        allow_stale=seconds_of(value.get("allow_stale", 0.0), "/allow_stale"),
    )


def _json_if_array(name: str, value: str, max_rows: int) -> object:
    """Return the array that a metadata entry holds as JSON text, or the entry itself."""
    if not value.startswith("["):
        return value
    text = value.encode(errors="replace")  # half a surrogate pair is no version
    refuse_many_values(text, max_rows)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidFieldsError(f"is not a JSON array: {exc}", f"/{name}") from exc


def _json_if_number(value: str) -> object:
    """Return the number that a metadata entry holds as JSON text, or the entry itself."""
    try:
        return msgspec.json.decode(value.encode(errors="replace"), type=float)
    except msgspec.MsgspecError:
        return value


def _require(fields: Collection[str], inside: str = "") -> None:
    missing = [f"{inside}/{name}" for name in _REQUIRED if name not in fields]
    if missing:
        raise InvalidFieldsError("is missing", *missing)
