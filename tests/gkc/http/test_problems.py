"""Every row of the table of errors, once as a table and once over HTTP."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from gkc import errors
from gkc.errors import GkcError
from gkc.http.problems import BARE_STATUSES, BLANK, problem_of
from gkc.problem import KINDS, TYPE_PREFIX
from tests.gkc.http.running import JSON, SAFETENSORS, Session, running

GOOD = {"u": 7, "i": [11, 12], "v": "half"}

EXAMPLES: list[tuple[GkcError, int]] = [
    (errors.MalformedBodyError("JSON", "x"), 400),
    (errors.InvalidHeaderError("X-A", "is wrong"), 400),
    (errors.UnauthorizedError("x"), 401),
    (errors.VersionNotFoundError("a", ["b"]), 404),
    (errors.NotAcceptableError("text/html", [JSON]), 406),
    (errors.SlowRequestError("nothing", 3), 408),
    (errors.BatchTooLargeError(3, 2), 413),
    (errors.TooManyValuesError(3, 2), 413),
    (errors.TooManyVersionsError(3, 2), 413),
    (errors.BodyTooLargeError(3), 413),
    (errors.UrlTooLongError(3), 414),
    (errors.UnsupportedMediaTypeError("text/html", [JSON]), 415),
    (errors.EncodedBodyError("gzip"), 415),
    (errors.InvalidFieldsError("is wrong", "/u"), 422),
    (errors.HeadTooLargeError("2 headers"), 431),
    (errors.SlowReaderError(3), 499),
    (errors.ClientGoneError(), 499),
    (errors.VersionNotReadyError("a"), 503),
    (errors.ServiceNotReadyError("loading"), 503),
    (errors.StoreUnavailableError("redis://x", "refused"), 503),
    (errors.CatalogueLostError("redis://x", "vanished"), 503),
    (errors.GenerationNotFoundError("g"), 503),
    (errors.GenerationCorruptError("g", "a bucket is missing"), 503),
    (errors.OverloadedError(), 503),
    (errors.DeadlineExceededError("the service", 0.5), 504),
]


@pytest.mark.parametrize(("error", "status"), EXAMPLES, ids=lambda x: type(x).__name__)
def test_each_error_has_its_status(error: GkcError, status: int) -> None:
    problem = problem_of(error)
    assert problem.status == status
    assert problem.details.detail == str(error)
    assert problem.body().startswith(b'{"type":"' + TYPE_PREFIX.encode())
    assert ("retry-after" in problem.headers) == (status == 503)


def test_those_refused_together_do_not_come_back_together() -> None:
    told = {problem_of(errors.OverloadedError()).headers["retry-after"] for _ in range(100)}
    assert told == {"1", "2", "3"}


def test_every_row_of_the_table_has_an_example() -> None:
    shown = {cls for error, _ in EXAMPLES for cls in type(error).__mro__}
    assert set(KINDS) <= shown


def test_the_page_shows_the_table() -> None:
    told = [(kind.status, kind.type, kind.when) for kind in KINDS.values()]
    told += [(status.value, BLANK, when) for status, when in BARE_STATUSES.items()]
    lines = [f"| {status} | `{type_}` | {when} |" for status, type_, when in sorted(told)]
    table = "\n".join(["| status | `type` | when |", "| --- | --- | --- |", *lines, ""])
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    assert f"\n\n{table}\n" in page, f"docs/http.md should have:\n{table}"


def test_of_a_long_detail_only_the_beginning_is_told() -> None:
    body = problem_of(errors.MalformedBodyError("JSON", "x" * 1_000_000)).body()
    assert b"the body is not JSON: xxx" in body
    assert len(body) < 10_000


def test_an_unforeseen_error_keeps_its_details_to_itself() -> None:
    problem = problem_of(ZeroDivisionError("secret"))
    assert problem.status == 500
    assert b"secret" not in problem.body()


def told(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["type"] == BLANK or body["type"].startswith(TYPE_PREFIX)
    assert isinstance(body, dict)
    return body


def test_400_not_json(asked: Session) -> None:
    headers = {"content-type": JSON}
    assert "JSON" in told(asked.post(content=b"{", headers=headers), 400)["detail"]


def test_400_not_safetensors(asked: Session) -> None:
    headers = {"content-type": SAFETENSORS}
    assert "safetensors" in told(asked.post(content=b"{", headers=headers), 400)["detail"]


def test_404_unknown_version_lists_the_versions(asked: Session) -> None:
    body = told(asked.post(GOOD | {"v": "none-such"}), 404)
    assert set(body["versions"]) >= {"half", "full", "int8"}
    assert "half" in body["detail"]


def test_404_unknown_path(asked: Session) -> None:
    assert told(asked.get("/nothing"), 404)["type"] == BLANK


def test_405_lists_the_methods(asked: Session) -> None:
    response = asked.get("/knowledge")
    told(response, 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*, text/plain"])
def test_406_no_type_we_can_answer(asked: Session, accept: str) -> None:
    assert JSON in told(asked.post(GOOD, headers={"accept": accept}), 406)["detail"]


def test_413_too_many_rows(asked: Session) -> None:
    assert told(asked.post(GOOD | {"i": list(range(51))}), 413)["max_rows"] == 50
    told(asked.post({"quadruples": [{"u": 1, "i": 1, "v": "half"}] * 51}), 413)


def test_413_too_many_bytes(asked: Session) -> None:
    headers = {"content-type": JSON}
    response = asked.post(content=b" " * 20_001, headers=headers)
    assert "20000 bytes" in told(response, 413)["detail"]


async def test_413_too_many_bytes_without_a_length(worlds: Any) -> None:
    async def chunks() -> Any:
        for _ in range(30):
            yield b" " * 1000

    async with running(worlds.url, max_body_bytes=20_000) as (client, _):
        response = await client.post("/knowledge", content=chunks(), headers={"content-type": JSON})
        told(response, 413)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {},
    ],
)
def test_415_a_media_type_that_is_not_read(asked: Session, headers: dict[str, str]) -> None:
    assert SAFETENSORS in told(asked.post(content=b"{}", headers=headers), 415)["detail"]


def test_415_a_compressed_body(asked: Session) -> None:
    headers = {"content-type": JSON, "content-encoding": "gzip"}
    detail = told(asked.post(content=gzip.compress(b"{}"), headers=headers), 415)["detail"]
    assert "Content-Encoding" in detail
    assert "uncompressed" in detail


def test_422_names_the_field(asked: Session) -> None:
    body = told(asked.post(GOOD | {"i": [11, 1.5]}), 422)
    detail = "is not an integer within int64, nor a string of 1 to 128 bytes of UTF-8"
    assert body["errors"] == [{"field": "/i/1", "detail": detail}]


def test_422_factored_as_json(asked: Session) -> None:
    body = told(asked.post(GOOD | {"layout": "factored"}), 422)
    assert [e["field"] for e in body["errors"]] == ["/layout"]


async def test_503_not_ready(tmp_path: Any) -> None:
    async with running(f"file:{tmp_path}", ready=False) as (client, _):
        response = await client.get("/readyz")
        assert "no version" in told(response, 503)["detail"] or "not been read" in response.text
        assert response.headers["retry-after"] in ("1", "2", "3")
