"""Which type a body is, and which one a caller prefers."""

from __future__ import annotations

import pytest

from gkc.errors import EncodedBodyError, NotAcceptableError, UnsupportedMediaTypeError
from gkc.http.negotiation import JSON, SAFETENSORS, answer_type, body_type


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("   ", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("APPLICATION/JSON", JSON),
        (SAFETENSORS, SAFETENSORS),
        (f"{SAFETENSORS}, */*;q=0.1", SAFETENSORS),
        (f"application/json, {SAFETENSORS}", JSON),
        (f"{SAFETENSORS}, application/json", JSON),
        (f"application/json;q=0.5, {SAFETENSORS};q=0.9", SAFETENSORS),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("application/json;q=0, */*", SAFETENSORS),
        (f"{SAFETENSORS};q=0, application/*", JSON),
        (f"{SAFETENSORS} ; q=1.000,application/json;q=0.999", SAFETENSORS),
        (", application/json,", JSON),
    ],
)
def test_the_preferred_type(accept: str, expected: str) -> None:
    assert answer_type(accept) == expected


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "*/*;q=0", "application/json;q=x", "json"]
)
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match=JSON):
        answer_type(accept)


@pytest.mark.parametrize(
    ("content_type", "encoding", "expected"),
    [
        ("application/json", "", JSON),
        ("Application/JSON; charset=UTF-8", "identity", JSON),
        (JSON, "identity, identity", JSON),
        (JSON, " identity,", JSON),
        (SAFETENSORS, "", SAFETENSORS),
    ],
)
def test_bodies_that_are_read(content_type: str, encoding: str, expected: str) -> None:
    assert body_type(content_type, encoding) == expected


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [("", ""), ("text/plain", ""), ("application/jsonp", ""), ("*/*", "")],
)
def test_bodies_that_are_not_read(content_type: str, encoding: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=SAFETENSORS):
        body_type(content_type, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity", "identity,gzip", "x"])
def test_bodies_that_are_compressed(encoding: str) -> None:
    with pytest.raises(EncodedBodyError, match=f"'{encoding}'.*uncompressed"):
        body_type(JSON, encoding)
