"""The OpenAPI document: what the types and the table of errors do not say by themselves."""

from __future__ import annotations

from typing import Any

from jsonschema_rs import Draft202012Validator, meta

from gkc.problem import CLIENT_CLOSED_REQUEST, KINDS
from tests.gkc.http.running import Session


def document(asked: Session) -> Any:
    return asked.get("/openapi.json").json()


def referred(value: Any) -> set[str]:
    """Return all that is referred to anywhere in a value."""
    if not isinstance(value, dict | list):
        return set()
    inner = value.values() if isinstance(value, dict) else value
    here = {value["$ref"]} if isinstance(value, dict) and "$ref" in value else set()
    return here.union(*map(referred, inner))


def test_both_forms_and_every_error_are_described(asked: Session) -> None:
    whole = document(asked)
    assert set(whole["paths"]) == {"/knowledge", "/versions", "/livez", "/readyz", "/metrics"}
    post = whole["paths"]["/knowledge"]["post"]
    content = post["requestBody"]["content"]
    forms = [form["$ref"] for form in content["application/json"]["schema"]["oneOf"]]
    assert forms == ["#/components/schemas/Columns", "#/components/schemas/Quadruples"]
    columns = whole["components"]["schemas"]["Columns"]
    options = ["parts", "dtype", "layout", "allow_stale"]
    assert list(columns["properties"]) == ["u", "i", "c", "v", *options]
    assert "application/x-safetensors" in content
    told = {kind for kind in KINDS.values() if kind.status != CLIENT_CLOSED_REQUEST}
    assert set(post["responses"]) == {"200", *(str(kind.status) for kind in told)}
    for kind in told:
        response = post["responses"][str(kind.status)]
        assert f"`{kind.type}`: {kind.when}" in response["description"]
        assert ("Retry-After" in response["headers"]) == bool(kind.retry_after_seconds)
        (content,) = response["content"].values()
        assert content["examples"][kind.name]["value"]["type"] == kind.type


def test_all_that_is_referred_to_is_there(asked: Session) -> None:
    whole = document(asked)
    for reference in referred(whole):
        part = whole
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
    for schema in whole["components"]["schemas"].values():
        meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_operation_has_a_name_a_tag_and_a_request_id(asked: Session) -> None:
    operations = [
        operation for path in document(asked)["paths"].values() for operation in path.values()
    ]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert len(operation["tags"]) == 1
        assert {"$ref": "#/components/parameters/X-Request-ID"} in operation["parameters"]


def test_the_examples_of_answers_are_such_answers(asked: Session) -> None:
    whole = document(asked)
    operations = [operation for path in whole["paths"].values() for operation in path.values()]
    responses = [response for each in operations for response in each["responses"].values()]
    contents = [content for response in responses for content in response["content"].values()]
    shown = [(c, example["value"]) for c in contents for example in c.get("examples", {}).values()]
    shown += [(content, content["example"]) for content in contents if "example" in content]
    assert len(shown) > len(KINDS)
    for content, value in shown:
        schema = {**content["schema"], "components": whole["components"]}
        Draft202012Validator(schema).validate(value)


def test_what_is_told_of_a_version_is_named(asked: Session) -> None:
    told = document(asked)["components"]["schemas"]["VersionInfo"]["properties"]
    assert told["users"]["type"] == "integer"
    assert told["compatible_with"]["type"] == "array"
    assert told["published_at"]["format"] == "date-time"


def test_the_documented_examples_are_understood(asked: Session) -> None:
    post = document(asked)["paths"]["/knowledge"]["post"]
    examples = post["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples) == {"columns", "strings", "quadruples"}
    for example in examples.values():
        response = asked.post(example["value"])
        assert response.status_code == 404, "all but its version is known"
