"""Every fault of a manifest is named with its key, every optional key is accepted."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from msgspec.structs import asdict

from exporter.errors import BundleError
from exporter.manifest import MODEL_KINDS, TABLE_KINDS, parse_manifest

INPUTS: dict[str, Any] = {"user_id": "user_id", "x": "age", "y": ["age", "city"]}
MODEL = {"file": "m.onnx", "output": "knowledge", "inputs": INPUTS}
LEAST: dict[str, Any] = {
    "format": "gkc-bundle/1",
    "name": "tiny",
    "dim": 2,
    "category_dim": 3,
    "models": dict.fromkeys(MODEL_KINDS, MODEL),
    "tables": dict.fromkeys(TABLE_KINDS, "t.parquet"),
}


def fed(columns: Any) -> dict[str, Any]:
    """A manifest's models, an input of the user's being fed with something."""
    return {"models": LEAST["models"] | {"user": MODEL | {"inputs": INPUTS | {"x": columns}}}}


def without(*members: str) -> dict[str, Any]:
    """Members of a manifest, what they say of user_category left out."""
    return {
        member: {name: value for name, value in LEAST[member].items() if "_categor" not in name}
        for member in members
    }


OPTIONAL: dict[str, Any] = {
    "created_at": "2021-12-20T03:00:00Z",
    "tasks": [{"name": "click", "dim": 2}],
    "task_weights": [[1, 0.5]],
    "pad": {"age": 5},
    "unknown": {"user": {"user_id": 0, "age": [1, 2.5, "x", True], "city": "x", "more": None}},
    "sha256": {"m.onnx": "aB" * 32},
    "compatible_with": [
        {"checkpoint": "c", "day": 6, "method": "ridge", "relative_error": {"user": 0.1}, "x": [1]}
    ],
    "vector_space": "keep-2021",
    "data_until": "2021-12-20T00:00:00+08:00",
    "run": {"id": "r1", "commit": "abc", "log_sha256": "0" * 64},
    "extra": {"yours": [{"any": None}]},
}


def test_the_least_and_the_most_that_a_manifest_may_say_are_read() -> None:
    assert parse_manifest(json.dumps(LEAST).encode()).pad == {}
    most = parse_manifest(json.dumps(LEAST | OPTIONAL).encode())
    assert most.unknown.user == OPTIONAL["unknown"]["user"]
    assert asdict(most.origin()) == {key: OPTIONAL[key] for key in asdict(most.origin())}
    assert most.models.item.inputs == MODEL["inputs"]


@pytest.mark.parametrize("category_dim", [{}, {"category_dim": 0}])
def test_user_category_may_be_left_out(category_dim: dict[str, int]) -> None:
    rest = {key: value for key, value in LEAST.items() if key != "category_dim"}
    manifest = parse_manifest(
        json.dumps(rest | without("models", "tables") | category_dim).encode()
    )
    assert manifest.category_dim == 0
    assert list(manifest.all_models()) == ["user", "item"]
    assert list(manifest.all_tables()) == ["users", "items"]


@pytest.mark.parametrize("key", sorted(LEAST))
def test_what_must_be_there_is_named(key: str) -> None:
    rest = {name: value for name, value in LEAST.items() if name != key}
    with pytest.raises(BundleError, match=f"manifest.json: '{key}' must be there"):
        parse_manifest(json.dumps(rest).encode())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"unkown": {}}, "'unkown' is no key of a manifest; did you mean 'unknown'?"),
        ({"taks": []}, "'taks' is no key of a manifest; did you mean 'tasks'?"),
        ({"qqq": 1}, "'qqq' is no key of a manifest; known: category_dim, compatible_with"),
        ({"run": {"comit": "x"}}, "'run.comit' is no key of a manifest; did you mean 'commit'?"),
        ({"tasks": [{"name": "x", "dim": 1, "dimm": 2}]}, "'tasks.0.dimm' is no key"),
        ({"tasks": [{"name": "x", "dim": 1}, {"name": ""}]}, "'tasks.1.name' must be a string"),
        ({"dim": 0}, "'dim' must be a whole number >= 1, not 0"),
        ({"dim": 10**10}, "'dim' must be a whole number <= 65536, not 10000000000"),
        ({"dim": 2.5}, "'dim' must be a whole number, not 2.5"),
        ({"name": "x" * 10**6}, "'name' must be a string of length <= 200, not"),
        ({"pad": {"a": 1, "b": 0}}, "'pad.b' must be a whole number >= 1, not 0"),
        ({"sha256": {"a": "0" * 64, "b": "x"}}, "'sha256.b' must be 64 hexadecimal digits"),
        ({"unknown": {"user": {"a": 1, "b": {}}}}, "'unknown.user.b' must be true or false or a"),
        ({"unknown": {"user": {"b": [1, None]}}}, "'unknown.user.b.1' must be"),
        ({"data_until": "2021-12-20"}, "'data_until' must be a time as RFC 3339 writes it, not"),
        ({"data_until": "2021-12-20T00:00:00"}, "'data_until' must be a time as RFC 3339 writes"),
        ({"created_at": "yesterday"}, "'created_at' must be a time as RFC 3339 writes it, not"),
        ({"created_at": ""}, "'created_at' must be a time as RFC 3339 writes it, not"),
        ({"created_at": "2021-12-20T03:00:00"}, "'created_at' must be a time as RFC 3339 writes"),
        (
            {"tasks": [{"name": n, "dim": 1} for n in ("click", "cart", "click")]},
            "'tasks.2.name' is 'click', as that of 'tasks.0' is",
        ),
        ({"extra": []}, "'extra' must be an object"),
        ({"compatible_with": {"checkpoint": "c"}}, "'compatible_with' must be a list"),
        ({"compatible_with": ["c"]}, "'compatible_with.0' must be an object"),
        (
            {"compatible_with": [{"checkpoint": "c"}, {"day": 6}]},
            "'compatible_with.1.checkpoint' must be there",
        ),
        ({"compatible_with": [{"checkpoint": ""}]}, "'compatible_with.0.checkpoint' must be a str"),
        (
            {"compatible_with": [{"checkpoint": "c", "day": True}]},
            "'compatible_with.0.day' must be a whole number, not true",
        ),
        (
            {"compatible_with": [{"checkpoint": "c", "relative_error": {"user": 1, "item": "1"}}]},
            "'compatible_with.0.relative_error.item' must be a number",
        ),
        ({"compatible_with": [{"checkpoint": "c", "x": [[1]]}]}, "'compatible_with.0.x.0' must be"),
        ({"compatible_with": [{"checkpoint": "c" * 20_000}]}, "'compatible_with' must be shorter"),
        ({"models": {**LEAST["models"], "item": {}}}, "'models.item.file' must be there"),
        (without("models"), "'models.user_category' must be there, since 'tables.user_categories'"),
        (without("tables"), "'tables.user_categories' must be there, since 'models.user_category'"),
        (
            without("models", "tables"),
            "'category_dim' must be 0 or left out, since 'models.user_category' is not there",
        ),
        (
            without("models", "tables")
            | {"category_dim": 0, "unknown": {"user_category": {"user_id": 1}}},
            "'unknown.user_category' must be left out, since 'models.user_category' is not there",
        ),
        ({"category_dim": 0}, "'category_dim' must be there and at least 1, since 'models.user_c"),
        (
            {"models": LEAST["models"] | {"user_category": MODEL | {"inptus": {}}}},
            "'models.user_category.inptus' is no key of a manifest; did you mean 'inputs'?",
        ),
        (
            {"models": LEAST["models"] | {"user_category": {}}},
            "'models.user_category.file' must be there",
        ),
        (fed([]), "'models.user.inputs.x' must be a list that is not empty"),
        (fed(""), "'models.user.inputs.x' must be a string that is not empty"),
        (fed(["age", ""]), "'models.user.inputs.x.1' must be a string that is not empty"),
        (fed(["age", ["sex"]]), "'models.user.inputs.x.1' must be a string"),
        (fed(5), "'models.user.inputs.x' must be a string or a list, not 5"),
    ],
)
def test_a_fault_is_named_with_its_key(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BundleError, match="^manifest.json: " + re.escape(problem)):
        parse_manifest(json.dumps(LEAST | changes).encode())


def test_what_is_megabytes_long_is_shortened() -> None:
    with pytest.raises(BundleError, match=r"^manifest.json: 'xxx.* … .*; mend") as refused:
        parse_manifest(json.dumps(LEAST | {"x" * 2_000_000: 1}).encode())
    assert len(str(refused.value)) < 2100


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"{", "is not JSON: "),
        (b"\xff", "is not JSON: "),
        (b"[]", "must be a JSON object"),
        (b"[" * 200_000, "is not JSON: it is nested too deeply"),
        (b'{"pad": {}, "pad": {}}', "is not JSON: the key 'pad' is there twice"),
        (
            b"{%s}" % b",".join(b'"%d":0' % (k % 99_999) for k in range(100_000)),
            "is not JSON: the key '0' is there twice",
        ),
        (b'{"dim": NaN}', "is not JSON: NaN is no JSON number"),
        (b'{"dim": 1e999}', "is not JSON: 1e999 is too large a number"),
        (b'{"name": "\\ud800"}', "is not JSON: "),
    ],
)
def test_what_is_no_json_object_is_said_so(raw: bytes, problem: str) -> None:
    with pytest.raises(BundleError, match="^manifest.json: " + re.escape(problem)):
        parse_manifest(raw)
