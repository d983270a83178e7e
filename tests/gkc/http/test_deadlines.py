"""What a caller says of its time is heeded: late answers are 504, and work for them is dropped."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import structlog

from tests.gkc.http.running import QUESTION, Session, ask, eventually, listening, unreliable
from tests.gkc.world import make_world

GOOD = {"u": 7, "i": [11, 12], "v": "half"}
BODY = json.dumps(QUESTION).encode()
HEAD = b"POST /knowledge HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "+5", "1.5", "1e3", "600001", "9" * 5000, "0x10", "5, 5", "abc", "٣"]
)
def test_what_is_no_time_is_refused(asked: Session, value: str) -> None:
    response = asked.post(GOOD, headers={"x-request-timeout-ms": value.encode()})
    assert response.status_code == 400
    problem = response.json()
    assert problem["type"] == "urn:gkc:problem:invalid-header"
    assert "X-Request-Timeout-Ms: send it once" in problem["detail"]
    assert "from 1 to 600000" in problem["detail"]


def test_it_is_given_once(asked: Session) -> None:
    twice = [("x-request-timeout-ms", "500")] * 2 + [("content-type", "application/json")]
    assert asked.post(content=json.dumps(GOOD), headers=twice).status_code == 400


@pytest.mark.parametrize("value", ["10000", "600000", "060000"])
def test_who_has_time_is_answered(asked: Session, value: str) -> None:
    assert asked.post(GOOD, headers={"x-request-timeout-ms": value}).status_code == 200


@pytest.mark.parametrize(
    ("settings", "headers", "by"),
    [
        ({}, {"x-request-timeout-ms": "20"}, "X-Request-Timeout-Ms"),
        ({"request_timeout_ms": 20}, {}, "GKC_REQUEST_TIMEOUT_MS"),
        ({"request_timeout_ms": 20}, {"x-request-timeout-ms": "60000"}, "GKC_REQUEST_TIMEOUT_MS"),
    ],
    ids=["the caller's", "the service's", "never more than the service's"],
)
async def test_a_late_answer_is_504_and_counted(
    url: str, settings: dict[str, Any], headers: dict[str, str], by: str
) -> None:
    make_world("v1").publish(url)
    async with unreliable(url, **settings) as (client, _, reader):
        reader.gates["fetch_users"] = asyncio.Event()
        with structlog.testing.capture_logs() as logged:
            response = await ask(client, QUESTION, **headers)
        assert response.status_code == 504
        problem = response.json()
        assert problem["type"] == "urn:gkc:problem:deadline-exceeded"
        assert "the service gave no whole answer within 0.02 s" in problem["detail"]
        assert f"allow more by {by}" in problem["detail"]
        reader.gates["fetch_users"].set()
        assert not logged, "counted, and no fault of the service"
        text = (await client.get("/metrics")).text
        assert 'gkc_rejected_total{reason="deadline-exceeded"} 1.0' in text
        assert (await ask(client, QUESTION)).status_code == 200


async def test_one_caller_s_deadline_ends_no_read_that_others_wait_for(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url, refresh_ms=3_600_000, store_timeout_ms=60_000) as (
        client,
        _,
        reader,
    ):
        make_world("v2", 1).publish(url)
        reader.gates["catalogue"] = asyncio.Event()
        before = reader.calls["catalogue"]
        new = QUESTION | {"v": "v2"}
        patient = asyncio.create_task(ask(client, new))
        hasty = await ask(client, new, **{"x-request-timeout-ms": "20"})
        assert hasty.status_code == 504
        reader.gates["catalogue"].set()
        assert (await patient).status_code == 503, "it is known by now, and being loaded"
        assert reader.calls["catalogue"] <= before + 2
        await eventually(lambda: _is_answered(client, new))


async def _is_answered(client: httpx.AsyncClient, body: object) -> bool:
    return (await ask(client, body)).status_code == 200


async def test_a_body_that_does_not_come_in_time_is_504_and_the_connection_goes_on(
    url: str,
) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (_, service, _), listening(service) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        length = b"content-length: %d\r\n" % len(BODY)
        writer.write(HEAD + length + b"x-request-timeout-ms: 20\r\n\r\n" + BODY[:5])
        assert await _status(reader) == 504
        writer.write(BODY[5:])
        writer.write(HEAD + length + b"\r\n" + BODY)
        assert await _status(reader) == 200
        writer.close()


async def test_time_in_the_queue_of_a_connection_counts(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (_, service, store), listening(service) as port:
        store.gates["fetch_users"] = asyncio.Event()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        length = b"content-length: %d\r\n" % len(BODY)
        for milliseconds in (b"80", b"40"):
            timeout = b"x-request-timeout-ms: %b\r\n" % milliseconds
            writer.write(HEAD + length + timeout + b"\r\n" + BODY)
        asked = store.calls["fetch_users"]
        assert [await _status(reader) for _ in range(2)] == [504, 504]
        assert store.calls["fetch_users"] == asked + 1, "nothing was done for the second"
        store.gates["fetch_users"].set()
        writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
    return int(head.split()[1])
