"""What the types say, what ``/openapi.json`` says, what is read and what is answered are one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from gkc.center.listing import VersionList
from gkc.center.question import Question
from gkc.errors import InvalidFieldsError
from gkc.http.decoding import decode_json, decode_safetensors
from gkc.http.openapi import COMPONENTS, KNOWLEDGE
from gkc.http.schemas import Health, Knowledge, ProblemDetails
from gkc.strings import MAX_STRING_BYTES
from tests.gkc.http.running import JSON, Session

Schema = dict[str, Any]

SCHEMAS: dict[str, Schema] = COMPONENTS["schemas"]
REQUEST: Schema = KNOWLEDGE["post"]["requestBody"]["content"][JSON]["schema"]
METADATA: Schema = {"$ref": "#/components/schemas/Metadata"}
MAX_ROWS = 100
FAMILY = 10

JUNK: list[Any] = [
    *(None, True, {}, [], "", "v1", "v1\n", "x" * 65, "user"),
    *(7, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 7.0, 7.5),
]
KEYS = [*"uicvw", "parts", "dtype", "layout", "allow_stale", "quadruples", "a/b~", ""]


def validator(schema: Schema) -> Draft202012Validator:
    return Draft202012Validator(schema | {"components": COMPONENTS})


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Return values that a schema allows: of objects the whole, of lists those that fit."""
    if "$ref" in schema:
        return values(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return st.one_of(*map(values, schema[choice]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "null": st.none,
        "number": lambda: st.floats(schema["minimum"], 1e9),
        "integer": lambda: st.integers(schema["minimum"], schema["maximum"]),
        "string": lambda: strings(schema),
        "array": lambda: st.lists(values(schema["items"]), min_size=1, max_size=2),
        "object": lambda: st.fixed_dictionaries(
            {name: values(value) for name, value in schema["properties"].items()}
        ),
    }
    return kinds[schema["type"]]()


def strings(schema: Schema) -> st.SearchStrategy[str]:
    """Return strings that a schema allows: versions, or ids."""
    if "pattern" in schema:
        return st.from_regex(schema["pattern"].replace("$", r"\Z"))
    return st.text(min_size=schema["minLength"], max_size=schema["maxLength"])


@st.composite
def families(draw: st.DrawFn, valid: st.SearchStrategy[Any]) -> list[Any]:
    """Draw a valid value and, since drawing costs more than checking, changes of it as well."""
    value = draw(valid)
    return [value, *(draw(changes(value)) for _ in range(FAMILY - 1))]


@st.composite
def changes(draw: st.DrawFn, value: Any) -> Any:
    """Draw a value of which one or two places are changed: replaced, taken out, put in."""
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        root = [json.loads(json.dumps(value))]
        inside, key = draw(st.sampled_from(places(root)))
        change = draw(st.sampled_from(["replace", "replace", "take out", "put in"]))
        junk = draw(st.sampled_from(JUNK))
        if change == "put in" and isinstance(inside[key], list):
            inside[key].append(junk)
        elif change == "put in" and isinstance(inside[key], dict):
            inside[key][draw(st.sampled_from(KEYS))] = junk
        elif change == "take out" and inside is not root:
            del inside[key]
        else:
            inside[key] = junk
        value = root[0]
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in a value, as what holds it and its key or index there."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    nested = [value[key] for key in keys if isinstance(value[key], dict | list)]
    return found + [place for inner in nested for place in places(inner)]


# ---- What a schema cannot say, by name. That there are too many rows is no fault of a body (413).


def lists_have_one_length(body: Any) -> bool:
    lengths = {len(body[name]) for name in "uicv" if isinstance(body.get(name), list)}
    return len(lengths - {1}) <= 1


def ids_are_written_as_integers(body: Any) -> bool:
    """JSON Schema takes 7.0 for the integer 7; here a fraction or an exponent is refused."""
    ids = {k: v for k, v in body.items() if k != "allow_stale"} if isinstance(body, dict) else {}
    inner = body if isinstance(body, list) else ids.values()
    return not isinstance(body, float) and all(map(ids_are_written_as_integers, inner))


def ids_fit_as_bytes(body: Any) -> bool:
    """JSON Schema counts the characters of a string; an id has at most so many bytes."""
    inner = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    fits = not isinstance(body, str) or len(body.encode()) <= MAX_STRING_BYTES
    return fits and all(map(ids_fit_as_bytes, inner))


def ids_of_a_kind_are_of_one_type(body: Any) -> bool:
    """Schemas are made of types, and no type says that all of a list are integers or strings."""
    rows = body.get("quadruples", ())
    columns = [body.get(name) for name in "uic"] + [[r.get(name) for r in rows] for name in "uic"]
    lists = (column for column in columns if isinstance(column, list))
    return all(len({type(value) for value in column} - {type(None)}) <= 1 for column in lists)


RULES_BEYOND_THE_SCHEMA = [
    lists_have_one_length,
    ids_are_written_as_integers,
    ids_fit_as_bytes,
    ids_of_a_kind_are_of_one_type,
]


def is_valid(body: Any, schema: Draft202012Validator) -> bool:
    return schema.is_valid(body) and all(holds(body) for holds in RULES_BEYOND_THE_SCHEMA)


def is_read(decode: Callable[[], Question], body: Any) -> bool:
    """Decode, and tell whether that went well; if not, the fields that are named must exist."""
    try:
        decode()
    except InvalidFieldsError as exc:
        for error in exc.errors:
            inside, _, name = error.field.rpartition("/")
            if error.detail == "is missing":
                form = "Quadruple" if inside else "Columns"
                assert name in SCHEMAS[form]["required"]
                assert name not in at(body, inside)
            else:
                at(body, error.field)
        return False
    return True


def at(body: Any, pointer: str) -> Any:
    """Return what a JSON Pointer points at."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        body = body[int(key)] if isinstance(body, list) else body[key]
    return body


def compare(
    schema: Schema, bodies: int, check: Callable[[Any, Draft202012Validator], bool]
) -> Counter[bool]:
    """Check so many bodies, and count those that were read and those that were refused."""
    judge = validator(schema)
    counts: Counter[bool] = Counter()

    @settings(max_examples=bodies // FAMILY, database=None)
    @given(family=families(values(schema)))
    def checked(family: list[Any]) -> None:
        for body in family:
            counts[check(body, judge)] += 1

    checked()
    return counts


def test_the_decoder_reads_what_the_schema_allows_and_refuses_the_rest() -> None:
    def check(body: Any, schema: Draft202012Validator) -> bool:
        sent = json.dumps(body).encode()
        read = is_read(lambda: decode_json(sent, MAX_ROWS), body)
        assert read == is_valid(body, schema)
        return read

    counts = compare(REQUEST, 10_000, check)
    assert counts.total() >= 10_000
    assert min(counts.values()) > 1_000, "so many of each kind"


def test_metadata_is_read_as_the_schema_allows() -> None:
    tensors = {"u": np.array([7]), "i": np.array([11])}

    def check(body: Any, schema: Draft202012Validator) -> bool:
        if not isinstance(body, dict):
            body = {}
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in body.items()}
        meant = {name: meant_by(name, text) for name, text in texts.items()}
        sent = safetensors.numpy.save(tensors, texts)
        read = is_read(lambda: decode_safetensors(sent, MAX_ROWS), meant)
        assert read == schema.is_valid(meant)
        return read

    counts = compare(METADATA, 1_000, check)
    assert min(counts.values()) > 100, "so many of each kind"


def meant_by(name: str, text: str) -> Any:
    """Return what a metadata entry stands for, as JSON if it may be some."""
    if not text.startswith("[") and name != "allow_stale":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.parametrize(
    ("path", "kind"), [("/versions", VersionList), ("/livez", Health), ("/readyz", Health)]
)
def test_answers_are_of_their_types(asked: Session, path: str, kind: type[msgspec.Struct]) -> None:
    assert_is(asked.get(path).content, kind)


def test_knowledge_is_of_its_type(asked: Session) -> None:
    for parts in (["user"], ["user_item", "user_category"]):
        answer = asked.post({"u": 7, "i": [11, 12], "v": "half", "parts": parts})
        assert answer.status_code == 200
        assert_is(answer.content, Knowledge)


@pytest.mark.parametrize("changes", [{"v": "none-such"}, {"i": [1, "2"]}, {"w": 1}])
def test_problems_are_of_their_type(asked: Session, changes: Any) -> None:
    answer = asked.post({"u": 7, "i": [11, 12], "v": "half"} | changes)
    assert answer.status_code in (404, 422)
    assert_is(answer.content, ProblemDetails)


def assert_is(content: bytes, kind: type[msgspec.Struct]) -> None:
    """Check that JSON is of a type, and holds nothing that the type does not tell of."""
    typed = msgspec.json.encode(msgspec.json.decode(content, type=kind))
    assert json.loads(typed) == json.loads(content)
