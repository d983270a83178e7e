"""Every limit of one caller: what is within is answered, what is beyond is refused and counted.

The table below is the one in ``docs/http.md``.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gkc.errors import InvalidFieldsError, TooManyValuesError, TooManyVersionsError
from gkc.http.admission import (
    ALWAYS_BEGUN,
    FREE_REFUSALS,
    LARGE_ANSWER_BYTES,
    LIGHT_BYTES,
    LIGHT_ROOM,
    MOST_ANSWER_BYTES,
    MOST_UNDER_WAY,
    PATIENCE_SECONDS,
    TURN_SECONDS,
)
from gkc.http.decoding import decode_json
from gkc.http.limits import (
    LIMITS,
    MAX_ACCEPT_BYTES,
    MAX_FIELDS_NAMED,
    MAX_NAME_CHARACTERS,
    MAX_VERSIONS,
    VALUES_BESIDES,
    VALUES_OF_ROW,
    Limits,
    refuse_many_versions,
)
from gkc.http.metrics import Metrics
from gkc.http.problems import problem_of
from gkc.problem import KINDS, kind_of
from tests.gkc.http.running import Session, eventually, listening

KINDS_BY_NAME = {kind.name: kind for kind in KINDS.values()}
LARGE = 16_000_000
QUICK: dict[str, Any] = {"look_seconds": 0.01, "linger_seconds": 5.0}
HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n"
HEAD_BYTES = len("/") + len("host") + len("x") + 4
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"


@dataclass(frozen=True)
class Limit:
    """A row of the table, and what is just within and just beyond it."""

    of: str
    at_most: str
    reason: str
    within: Any = b""
    beyond: Any = b""
    limits: dict[str, Any] = field(default_factory=dict)


def head(url: bytes = b"/", *headers: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (url, b"".join(b"%b\r\n" % each for each in headers))


def padded(size: int) -> bytes:
    """Return a head that counts as so many bytes."""
    return HEAD + b"a: " + b"b" * (size - HEAD_BYTES - 5) + b"\r\n\r\n"


BY_CONNECTION = [
    Limit(
        "the URL",
        f"{LIMITS.url_bytes} bytes",
        "url-too-long",
        head(b"/" * LIMITS.url_bytes),
        head(b"/" * (LIMITS.url_bytes + 1)),
    ),
    Limit(
        "the head: URL, names and values, with 4 bytes more for each of the latter",
        f"{LIMITS.head_bytes} bytes",
        "head-too-large",
        padded(LIMITS.head_bytes),
        padded(LIMITS.head_bytes + 1),
    ),
    Limit(
        "headers",
        f"{LIMITS.headers}",
        "head-too-large",
        head(b"/", *[b"a: b"] * LIMITS.headers),
        head(b"/", *[b"a: b"] * (LIMITS.headers + 1)),
    ),
    Limit(
        "the time from the first byte of a head to its last",
        f"{LIMITS.head_seconds:g} s",
        "slow-request",
        HEAD + b"\r\n",
        HEAD,
        {"head_seconds": 0.05},
    ),
    Limit(
        "the time without a byte of a body",
        f"{LIMITS.body_seconds:g} s",
        "slow-request",
        POST + b"content-length: 5\r\n\r\n12345",
        POST + b"content-length: 5\r\n\r\n1234",
        {"body_seconds": 0.05},
    ),
]
AHEAD = Limit(
    "requests sent on a connection behind one that is being answered",
    f"{LIMITS.requests_ahead}",
    "overloaded",
)
NEVER_READ = Limit(
    "the time without a byte of an answer being taken", f"{LIMITS.write_seconds:g} s", "slow-reader"
)
IDLE = Limit("the time without a request", f"{LIMITS.idle_seconds:g} s", "")
BY_QUESTION = [
    Limit(
        "`Accept`",
        f"{MAX_ACCEPT_BYTES} bytes",
        "head-too-large",
        {"headers": {"accept": "*/*," * (MAX_ACCEPT_BYTES // 4)}},
        {"headers": {"accept": "*/*," * (MAX_ACCEPT_BYTES // 4) + ","}},
    ),
    Limit(
        "a body",
        "`GKC_MAX_BODY_BYTES`",
        "body-too-large",
        {"content": b'{"u": 7, "i": 11, "v": "half"}'.ljust(20_000)},
        {"content": b'{"u": 7, "i": 11, "v": "half"}'.ljust(20_001)},
    ),
    Limit(
        "rows",
        "`GKC_MAX_ROWS`",
        "too-many-rows",
        {"json": {"u": 7, "i": [11] * 50, "v": "half"}},
        {"json": {"u": 7, "i": [11] * 51, "v": "half"}},
    ),
]
VERSIONS = Limit("distinct versions", f"{MAX_VERSIONS}", "too-many-versions")
VALUES = Limit(
    "values of JSON, where it has more than 64 KiB",
    f"{VALUES_OF_ROW} a row of `GKC_MAX_ROWS`, and {VALUES_BESIDES}",
    "too-many-rows",
)
NAMED = Limit(
    "unknown fields that an answer names",
    f"{MAX_FIELDS_NAMED}, of each {MAX_NAME_CHARACTERS} characters",
    "",
)
TIME = Limit(
    "the time from the last byte of a head to the first of its answer",
    "`GKC_REQUEST_TIMEOUT_MS`, or `X-Request-Timeout-Ms` if that is less",
    "deadline-exceeded",
)
TURN = Limit(
    "work that is begun at once, as far as can be told from bodies",
    f"{1000 * TURN_SECONDS:g} ms, and as much of bodies up to {LIGHT_BYTES} bytes, at least "
    f"{LIGHT_ROOM} of them; more waits while the worker does up to {1000 * PATIENCE_SECONDS:g} ms "
    f"of work; where fewer than {ALWAYS_BEGUN} are under way, and no more were refused at once a "
    "second ago, all is begun",
    "overloaded",
)
REFUSALS = Limit("refusals of those that came at once", f"{FREE_REFUSALS}", "overloaded")
UNDER_WAY = Limit("requests under way in a worker", f"{MOST_UNDER_WAY}", "overloaded")
ROOM = Limit(
    f"answers of {LARGE_ANSWER_BYTES >> 20} MiB or more under way in a worker, with what they are "
    "made from",
    f"{MOST_ANSWER_BYTES >> 20} MiB together, or one",
    "overloaded",
)
OF_ALL = [TURN, REFUSALS, UNDER_WAY, ROOM]
"""Of all callers together: `tests.gkc.http.test_admission` and `tests.faults.test_overload`."""
TABLE = [
    *BY_CONNECTION[:3],
    AHEAD,
    *BY_CONNECTION[3:],
    TIME,
    NEVER_READ,
    IDLE,
    *BY_QUESTION,
    VERSIONS,
    VALUES,
    NAMED,
    *OF_ALL,
]


def row(limit: Limit) -> str:
    kind = KINDS_BY_NAME.get(limit.reason)
    if kind:
        then = f"{kind.status} `{kind.name}`"
        if limit is REFUSALS:
            then += ", and the connection is not read for 50 to 150 ms"
    else:
        then = "the connection is closed" if limit is IDLE else "they are counted"
    return f"| {limit.of} | {limit.at_most} | {then} |"


def test_the_page_shows_the_table() -> None:
    lines = ["| of | at most | beyond it |", "| --- | --- | --- |", *map(row, TABLE), ""]
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    table = "\n".join(lines)
    assert f"\n\n{table}\n" in page, f"docs/http.md should have:\n{table}"


def rejected(metrics: Metrics) -> dict[str, float]:
    """Return how many were refused for each reason for which any was."""
    lines = metrics.render(None, True).decode().splitlines()
    found = [x.split('"') for x in lines if x.startswith("gkc_rejected_total{")]
    return {reason: float(count[2:]) for _, reason, count in found if float(count[2:])}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the whole body, and answer at length where that is asked for."""
    more = scope["type"] == "http"
    while more:
        message = await receive()
        more = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            return
    size = LARGE if scope["path"] == "/large" else 1
    headers = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"a" * size})


async def answer_to(
    port: int, data: bytes, step: int = 1 << 30
) -> tuple[int, dict[str, str], bytes]:
    """Send bytes on a connection and read the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        await asyncio.sleep(0)
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    body = await reader.readexactly(int(headers["content-length"]))
    if headers.get("connection") == "close":
        assert await reader.read() == b""
    writer.close()
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize("step", [1000, 1 << 30], ids=["in pieces", "at once"])
@pytest.mark.parametrize("limit", BY_CONNECTION, ids=lambda limit: limit.of)
async def test_a_connection_has_limits(limit: Limit, step: int) -> None:
    metrics = Metrics()
    async with listening(app, Limits(**QUICK | limit.limits), metrics) as port:
        assert (await answer_to(port, limit.within, step))[0] == 200
        assert not rejected(metrics)
        status, headers, body = await answer_to(port, limit.beyond, step)
    problem = json.loads(body)
    kind = KINDS_BY_NAME[limit.reason]
    assert (status, problem["status"], problem["type"]) == (kind.status, kind.status, kind.type)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-request-id"]
    assert rejected(metrics) == {limit.reason: 1}


@pytest.mark.parametrize("limit", BY_QUESTION, ids=lambda limit: limit.of)
def test_a_question_has_limits(asked: Session, limit: Limit) -> None:
    question = {"json": {"u": 7, "i": 11, "v": "half"}}

    def ask(request: dict[str, Any]) -> Any:
        given = request if "json" in request or "content" in request else question | request
        headers = {"content-type": "application/json", **given.get("headers", {})}
        return asked.post(**{**given, "headers": headers})

    def counted() -> float:
        line = f'gkc_rejected_total{{reason="{limit.reason}"}} '
        lines = asked.get("/metrics").text.splitlines()
        return float(next(x for x in lines if x.startswith(line)).removeprefix(line))

    before = counted()
    assert ask(limit.within).status_code == 200
    assert counted() == before
    answer = ask(limit.beyond)
    kind = KINDS_BY_NAME[limit.reason]
    assert (answer.status_code, answer.json()["type"]) == (kind.status, kind.type)
    assert counted() == before + 1


@pytest.mark.parametrize("more", [0, 1, 5000])
async def test_so_many_requests_may_be_sent_ahead(more: int) -> None:
    metrics = Metrics()
    within = 1 + LIMITS.requests_ahead
    async with listening(app, Limits(**QUICK), metrics) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((HEAD + b"\r\n") * (within + more))
        for _ in range(within):
            assert b" 200 " in await reader.readuntil(b"\r\n")
            await reader.readuntil(b"\r\n\r\na")
        if more:
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
    assert rejected(metrics) == ({AHEAD.reason: 1} if more else {})


async def test_who_does_not_read_is_cut_off_and_its_answer_forgotten() -> None:
    metrics = Metrics()

    def level(name: str) -> float:
        lines = metrics.render(None, True).decode().splitlines()
        return float(next(x for x in lines if x.startswith(name)).split()[1])

    async def is_held() -> bool:
        held = level("gkc_answer_bytes_inflight")
        return level("gkc_open_connections") == 1 and 0 < held <= LARGE

    async def is_gone() -> bool:
        return level("gkc_open_connections") == level("gkc_answer_bytes_inflight") == 0

    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.setblocking(False)
        async with listening(app, Limits(**QUICK | {"write_seconds": 0.3}), metrics) as port:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(caller, ("127.0.0.1", port))
            await loop.sock_sendall(caller, head(b"/large"))
            await eventually(is_held)
            await eventually(is_gone)
    assert rejected(metrics) == {NEVER_READ.reason: 1}


async def test_a_slow_reader_gets_all_of_its_answer() -> None:
    limits = Limits(**QUICK | {"write_seconds": 0.1})
    metrics = Metrics()
    async with listening(app, limits, metrics) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(b"/large"))
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(16):
            await reader.readexactly(LARGE // 16)
            await asyncio.sleep(0.03)
        writer.close()
    assert not rejected(metrics)


@pytest.mark.parametrize("data", [b"", b"\r\n", head()], ids=["nothing", "blanks", "a request"])
async def test_an_idle_connection_is_closed(data: bytes) -> None:
    metrics = Metrics()
    async with listening(app, Limits(**QUICK | {"idle_seconds": 0.05}), metrics) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        assert (await reader.read()).startswith(b"HTTP/1.1 200" if data == head() else b"")
        writer.close()
    assert not rejected(metrics)


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"a: " + b"b" * 1_000_000,
        b"GET /" + b"b" * 1_000_000,
        HEAD + b"a:b\r\n" * 100_000,
        HEAD + b"a" * 1_000_000,
        POST + b"transfer-encoding: chunked\r\n\r\n1;" + b"b" * 1_000_000,
        POST + b"transfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\na: " + b"b" * 1_000_000,
        POST + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a:b\r\n" * 100_000,
    ],
    ids=["value", "URL", "headers", "name", "chunk's extension", "trailer", "trailers"],
)
async def test_what_never_ends_is_refused_while_it_comes(data: bytes) -> None:
    async with listening(app) as port:
        status, _, _ = await answer_to(port, data, 10_000)
    assert status in (414, 431)


async def test_what_comes_of_a_body_after_the_answer_ends() -> None:
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with listening(hasty, Limits(**QUICK | {"body_seconds": 0.1})) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 1000000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"b" * 1000)
            await asyncio.sleep(0.01)
            if writer.transport.is_closing():
                break
        else:
            pytest.fail("it is read for ever")


async def test_refusal_comes_after_the_answers_that_are_owed() -> None:
    release = asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        await app(scope, receive, send)

    async with listening(waiting, Limits(**QUICK | {"head_seconds": 0.02})) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head() + HEAD)
        await asyncio.sleep(0.1)
        release.set()
        answers = await reader.read()
        writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"408"]


def test_versions_are_counted() -> None:
    names = [f"v{k}" for k in range(MAX_VERSIONS + 1)]

    def ask(versions: list[str]) -> None:
        body = json.dumps({"u": 1, "i": 1, "v": versions}).encode()
        refuse_many_versions(decode_json(body, 10_000))

    ask(names[1:] * 2)
    with pytest.raises(TooManyVersionsError) as caught:
        ask(names)
    assert KINDS[type(caught.value)].name == VERSIONS.reason


def over(rows: int, value: str) -> bytes:
    """Return JSON of so many values, and more than 64 KiB."""
    return f'{{"u": 1, "v": "A", "i": [{",".join([value] * rows)}]}}'.encode().ljust(70_000)


@pytest.mark.parametrize("value", ["1", "[]", "{}", "1e999", '"\\"a"', "[[[["])
def test_values_are_counted_before_they_are_read(value: str) -> None:
    most = VALUES_OF_ROW * 1000 + VALUES_BESIDES
    with pytest.raises(TooManyValuesError) as caught:
        decode_json(over(most, value), 1000)
    assert kind_of(caught.value).name == VALUES.reason
    assert problem_of(caught.value).details.max_rows == 1000


@pytest.mark.parametrize("text", [",", "[{", '\\",', "\\\\"])
def test_what_stands_in_strings_is_no_value(text: str) -> None:
    body = json.dumps({"u": 1, "v": "A", "i": [text * 16] * 1000}).encode()
    assert decode_json(body.ljust(70_000), 1000).columns.n == 1000


def test_only_some_unknown_fields_are_named() -> None:
    long = "y" * 10_000
    body = json.dumps({f"x{k:04}": 0 for k in range(5000)} | {"a": 0, long: 0}).encode()
    with pytest.raises(InvalidFieldsError) as caught:
        decode_json(body, 10_000)
    told = caught.value.errors
    assert len(told) == MAX_FIELDS_NAMED
    assert told[0].field == "/a"
    assert told[0].detail.startswith("is not a known field (known: ")
    assert told[0].detail.endswith(f"), nor are {5002 - MAX_FIELDS_NAMED} more")
    with pytest.raises(InvalidFieldsError) as caught:
        decode_json(json.dumps({long: 0}).encode(), 1)
    assert caught.value.errors[0].field == "/" + "y" * MAX_NAME_CHARACTERS + "…"
