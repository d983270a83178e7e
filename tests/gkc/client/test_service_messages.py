"""Requests as a service reads them, and its errors as a client tells them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from gkc import errors
from gkc.center.question import Question
from gkc.client.question import question_of
from gkc.client.service_address import Address
from gkc.client.service_connection import Response
from gkc.client.service_messages import error_told, knowledge_request
from gkc.errors import FieldError, GkcError
from gkc.http.decoding import decode_safetensors
from gkc.http.problems import problem_of
from gkc.problem import KINDS

QUESTIONS: list[dict[str, Any]] = [
    {"u": 7, "i": [1, 2, 3], "v": "v1"},
    {"u": [7, 8], "i": [1, 2], "c": [3, 4], "v": ["a", "b"]},
    {"u": 7, "i": [1, 2], "c": 5, "v": "v1", "parts": ["item"], "dtype": "f16"},
    {"u": 7, "i": [1, 2], "c": [None, 5], "v": "v1", "parts": ["item"], "dtype": "f16"},
    {"u": 7, "i": 1, "c": [None, 5, None], "v": "v1"},
    {"u": 7, "i": 1, "c": [None, None], "v": "v1"},
    {"u": 7, "i": 1, "v": ["v1", "v1", "v1"]},
    {"u": 7, "i": 1, "v": "v1"},
    {"u": "a", "i": ["b", "\N{SNOWMAN}"], "c": ["c", None], "v": "v1"},
    {"u": "a", "i": "b", "c": "c", "v": ["v1", "v1", "v1"]},
    {"u": np.str_("a"), "i": np.array(["b", "c"]), "c": 5, "v": "v1"},
    {"u": 7, "i": ["b", np.str_("c")], "c": [None, 5], "v": "v1"},
    {"u": 7, "i": [], "v": "v1"},
    {"u": [], "i": [], "v": []},
    {"u": 7, "i": 1, "v": "v1", "allow_stale": 2.5},
]


def asked(told: dict[str, Any]) -> Question:
    return question_of(**{"c": None, "parts": None, "dtype": "f32"} | told)


def rows(question: Question) -> list[Any]:
    columns, n = question.columns, question.columns.n
    given = columns.has_category.tolist() if columns.has_category is not None else [False]
    categories = columns.categories.tolist() if columns.categories is not None else [None]
    own = [c if is_given else None for c, is_given in zip(categories, given, strict=True)]
    wide = [
        column * n if len(column) == 1 else column
        for column in (columns.users.tolist(), columns.items.tolist(), own)
    ]
    names = [columns.versions[k] for k in np.broadcast_to(columns.version_index, n)] if n else []
    options = [question.parts, question.dtype, question.allow_stale]
    return [*zip(*wide, names, strict=True), *options]


@pytest.mark.parametrize("told", QUESTIONS)
def test_a_service_reads_the_question_that_was_asked(told: dict[str, Any]) -> None:
    question = asked(told)
    request = knowledge_request(question)
    assert "Content-Type: application/x-safetensors" in request.headers
    assert rows(decode_safetensors(request.body, 100)) == rows(question)
    assert f"Content-Length: {len(request.body)}\r\n" in request.headers


def test_a_request_says_how_much_time_is_left() -> None:
    request = knowledge_request(asked(QUESTIONS[0]))
    for seconds, told in [(0.0504, 50), (-1.0, 1), (1e6, 600_000)]:
        head = request.to("host:1", "/a", seconds).partition(b"\r\n\r\n")[0].decode()
        assert head.startswith("POST /a/knowledge HTTP/1.1\r\nHost: host:1\r\n")
        assert f"X-Request-Timeout-Ms: {told}\r\n" in head


EXAMPLES: list[GkcError] = [
    errors.InvalidHeaderError("X-A", "is wrong"),
    errors.UnauthorizedError("x"),
    errors.MalformedBodyError("JSON", "x"),
    errors.VersionNotFoundError("v1", ["b"]),
    errors.NotAcceptableError("text/html", ["a/b"]),
    errors.BatchTooLargeError(3, 2),
    errors.TooManyVersionsError(3, 2),
    errors.BodyTooLargeError(3),
    errors.HeadTooLargeError("2 headers"),
    errors.UrlTooLongError(3),
    errors.SlowRequestError("nothing", 3),
    errors.SlowReaderError(3),
    errors.UnsupportedMediaTypeError("text/html", ["a/b"]),
    errors.EncodedBodyError("gzip"),
    errors.InvalidFieldsError("is wrong", "/u", "/i"),
    errors.ClientGoneError(),
    errors.VersionNotReadyError("v1"),
    errors.ServiceNotReadyError("loading"),
    errors.StoreError("the store is away"),
    errors.OverloadedError(),
    errors.DeadlineExceededError("the service", 0.5),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_comes_back_as_it_was_told(error: GkcError) -> None:
    problem = problem_of(error)
    headers = {name.encode(): value.encode() for name, value in problem.headers.items()}
    headers[b"content-type"] = b"application/problem+json; charset=utf-8"
    body = np.frombuffer(bytearray(problem.body()), dtype=np.uint8)
    response = Response(Address("http://h:1"), problem.status, headers, body)
    told = error_told(response, asked(QUESTIONS[0]))
    assert type(told) is type(error)
    assert (told.detail, told.errors) == (error.detail, error.errors)
    assert (told.status, told.title) == (problem.status, problem.details.title)
    assert (told.retry_after in (1.0, 2.0, 3.0)) == (problem.status == 503)


def test_facts_come_back_where_they_were_told() -> None:
    told: list[tuple[GkcError, dict[str, Any]]] = [
        (errors.VersionNotFoundError("v1", ["b"]), {"version": "v1", "known": ("b",)}),
        (errors.BatchTooLargeError(3, 2), {"rows": 3, "max_rows": 2}),
        (errors.InvalidFieldsError("is wrong", "/u"), {"errors": (FieldError("/u", "is wrong"),)}),
        (errors.VersionNotReadyError("v1"), {"version": "v1"}),
    ]
    for error, facts in told:
        problem = problem_of(error)
        body = np.frombuffer(bytearray(msgspec.json.encode(problem.details)), dtype=np.uint8)
        headers = {b"content-type": b"application/problem+json"}
        response = Response(Address("http://h:1"), problem.status, headers, body)
        found = vars(error_told(response, asked(QUESTIONS[0])))
        assert {name: found[name] for name in facts} == facts


@pytest.mark.parametrize(("users", "field"), [(7, "/u"), ([7], "/u/0")])
def test_an_error_points_at_what_was_asked_and_not_at_a_tensor(users: Any, field: str) -> None:
    question = question_of(users, [1], None, "v1", None, "f32")
    problem = problem_of(errors.InvalidFieldsError("is a number", "/u/0"))
    body = np.frombuffer(bytearray(problem.body()), dtype=np.uint8)
    headers = {b"content-type": b"application/problem+json"}
    told = error_told(Response(Address("http://h:1"), 422, headers, body), question)
    assert (told.detail, told.errors) == (
        f"{field} is a number",
        (FieldError(field, "is a number"),),
    )


def test_every_kind_of_error_is_shown() -> None:
    assert set(KINDS) - {Exception} == {type(error) for error in EXAMPLES}
