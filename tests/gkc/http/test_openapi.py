"""The hand-written part of the OpenAPI document."""

from __future__ import annotations

from tests.gkc.http.running import Session


def test_openapi_describes_both_forms_and_every_error(asked: Session) -> None:
    document = asked.get("/openapi.json").json()
    assert set(document["paths"]) == {"/knowledge", "/versions", "/livez", "/readyz", "/metrics"}
    post = document["paths"]["/knowledge"]["post"]
    content = post["requestBody"]["content"]
    forms = content["application/json"]["schema"]["oneOf"]
    assert [form["title"] for form in forms] == ["Columns", "Quadruples"]
    assert set(forms[0]["properties"]) == {"u", "i", "c", "v", "parts", "dtype", "layout"}
    assert "application/x-safetensors" in content
    assert set(post["responses"]) == {"200", "400", "404", "406", "413", "415", "422", "503"}
    answer = post["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(answer["properties"]) == {"versions", "parts", "knowledge", "status"}


def test_openapi_names_what_is_told_of_a_version(asked: Session) -> None:
    schemas = asked.get("/openapi.json").json()["components"]["schemas"]
    told = schemas["VersionInfo"]["properties"]
    assert told["users"]["type"] == "integer"
    assert told["compatible_with"]["type"] == "array"


def test_the_documented_example_is_understood(asked: Session) -> None:
    document = asked.get("/openapi.json").json()
    content = document["paths"]["/knowledge"]["post"]["requestBody"]["content"]
    response = asked.post(content["application/json"]["example"])
    assert response.status_code == 404, "all but its version is known"
