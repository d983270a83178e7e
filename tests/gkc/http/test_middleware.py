"""Request ids, and the net under whatever an application raises."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from traceback import format_exception
from typing import Any

import httpx
import pytest
import structlog
from starlette.types import Receive, Scope, Send

from gkc.errors import GenerationCorruptError
from gkc.http.asgi import respond
from gkc.http.metrics import Metrics
from gkc.http.middleware import TURN, Observed
from gkc.logs import add_request_id, tell_error


def client_of(app: Any, metrics: Metrics | None = None) -> httpx.AsyncClient:
    metrics = metrics or Metrics()
    metrics.routes = ["/known"]
    observed = Observed(app, metrics)
    return httpx.AsyncClient(transport=httpx.ASGITransport(observed), base_url="http://gkc")


async def good(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, "text/plain", [b"good"])


@pytest.mark.parametrize("may_begin", [True, False])
async def test_who_is_to_wait_begins_in_his_turn_or_is_refused(may_begin: bool) -> None:
    turn = asyncio.get_running_loop().create_future()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_soon(turn.set_result, may_begin)
        await Observed(good, metrics)({**scope, TURN: turn}, receive, send)

    metrics = Metrics()
    async with client_of(waiting) as client:
        answer = await client.get("/known")
    assert answer.status_code == (200 if may_begin else 503)
    assert (answer.text == "good") == may_begin
    assert ("retry-after" in answer.headers) == (not may_begin)
    metrics.add_tally()
    rejected = 'gkc_rejected_total{reason="overloaded"} 1.0' in metrics.render(None, True).decode()
    assert rejected == (not may_begin)


async def test_ids_are_echoed_or_made() -> None:
    async with client_of(good) as client:
        given = await client.get("/known", headers={"x-request-id": "abc-1"})
        assert given.headers["x-request-id"] == "abc-1"
        made = [(await client.get("/known")).headers["x-request-id"] for _ in range(2)]
        assert len(set(made)) == 2
        for unfit in ("with space", "x" * 129):
            answer = await client.get("/known", headers={"x-request-id": unfit})
            assert answer.headers["x-request-id"] != unfit


def test_forked_workers_make_other_ids() -> None:
    program = (
        "import os; from gkc.http.middleware import request_id_of as made; made(b''); os.fork()"
    )
    told = subprocess.check_output(
        [sys.executable, "-c", f"{program}; os.write(1, made(b'').encode() + b'\\n')"]
    )
    assert len(set(told.split())) == 2


@pytest.mark.parametrize(
    ("error", "status", "has_traceback"),
    [(ZeroDivisionError("boom"), 500, True), (GenerationCorruptError("g", "x"), 503, False)],
)
async def test_server_errors_are_told_and_logged_with_the_id(
    error: Exception, status: int, has_traceback: bool
) -> None:
    async def bad(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    metrics = Metrics()
    with structlog.testing.capture_logs(processors=[add_request_id, tell_error]) as logged:
        async with client_of(bad, metrics) as client:
            response = await client.get("/known", headers={"x-request-id": "abc-2"})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert "boom" not in response.text
    (entry,) = logged
    assert entry["event"] == "request_failed"
    assert entry["request_id"] == "abc-2"
    assert ("stack" in entry) == has_traceback
    assert "boom" not in str(entry), "an error that nobody foresaw may say anything"
    metrics.add_tally()
    text = metrics.render(None, True).decode()
    assert f'gkc_requests_total{{code="{status}",route="/known"}} 1.0' in text
    assert "gkc_inflight_requests 0.0" in text


async def test_half_an_answer_is_cut_not_completed() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError("boom")

    async with client_of(half) as client:
        with pytest.raises(RuntimeError) as cut:
            await client.get("/known")
    assert "boom" not in "".join(format_exception(cut.value)), "the server logs it"


async def test_a_caller_who_hangs_up_is_counted_as_such() -> None:
    async def hung_up(scope: Scope, receive: Receive, send: Send) -> None:
        return

    metrics = Metrics()
    observed = Observed(hung_up, metrics)

    async def unused(*_: Any) -> Any:
        raise AssertionError("nothing is read or sent")

    await observed({"type": "http", "path": "/x", "headers": []}, unused, unused)
    metrics.add_tally()
    assert 'gkc_requests_total{code="499",route="other"} 1.0' in metrics.render(None, True).decode()
