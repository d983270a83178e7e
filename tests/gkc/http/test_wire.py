"""Answers are whole and in order, whatever callers send, and however they read."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
from typing import Any

import httpx
import msgspec
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gkc.errors import OverloadedError
from gkc.http import wire
from gkc.http.admission import FREE_REFUSALS, Admission
from gkc.http.asgi import respond
from gkc.http.connections import Connections
from gkc.http.limits import Limits
from gkc.http.metrics import Metrics
from gkc.http.middleware import Observed
from gkc.http.problems import problem_of
from tests.gkc.http.running import listening


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with many pieces, large and small, some of them a while later."""
    if scope["type"] != "http":
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-kept", b"yes")]})
    for piece in (b"a" * 10, b"b" * 300_000, b"c" * 10):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0.001)
    await send({"type": "http.response.body", "body": b"d" * 1_000_000})


async def test_a_real_server_sends_whole_answers_on_one_connection() -> None:
    expected = b"a" * 10 + b"b" * 300_000 + b"c" * 10 + b"d" * 1_000_000
    async with (
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        for _ in range(3):
            answer = await client.get("/")
            assert answer.headers["x-kept"] == "yes"
            assert answer.content == expected
        closing = await client.get("/", headers={"connection": "close"})
        assert closing.content == expected


async def whole(scope: Any, receive: Any, send: Any) -> None:
    """Answer with as many bytes as the path says, through the call that writes whole answers."""
    if scope["type"] == "http":
        size = int(scope["path"][1:])
        await respond(send, 200, "text/plain", [b"a" * (size - size // 2), b"b" * (size // 2)])


async def test_requests_leave_nothing_to_the_garbage_collector() -> None:
    """What only the collector frees is in the way of others: a cycle a request cost a tenth."""
    async with (
        listening(whole) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        await client.get("/10")
        gc.collect()
        gc.disable()
        try:
            gc.set_debug(gc.DEBUG_SAVEALL)
            for _ in range(20):
                await client.post("/10", content=b"body")
            gc.collect()
            assert not [each for each in gc.garbage if isinstance(each, RequestResponseCycle)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


@pytest.mark.parametrize("size", [0, 10, 200_000, 3_000_000])
async def test_answers_that_are_written_as_a_whole_are_http_like_any_other(size: int) -> None:
    async with listening(Observed(whole, Metrics())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for method, version in (("GET", "1.1"), ("HEAD", "1.1"), ("GET", "1.1"), ("GET", "1.0")):
            writer.write(f"{method} /{size} HTTP/{version}\r\nhost: x\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200 ok\r\n")
            assert b"\r\ncontent-length: %d\r\n" % size in head
            assert head.count(b"\r\nx-request-id: ") == 1
            assert (b"\r\nconnection: close\r\n" in head) == (version == "1.0")
            if method == "GET":
                body = await reader.readexactly(size)
                assert body == b"a" * (size - size // 2) + b"b" * (size // 2)
        assert await reader.read() == b"", "the connection ends after its last answer"
        writer.close()


async def test_a_caller_who_reads_late_gets_every_answer_in_order() -> None:
    sizes = [900_000, 5, 700_000, 1] * 3
    async with listening(Observed(whole, Metrics())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % size for size in sizes))
        await asyncio.sleep(0.05)  # by now what is written waits for this caller
        for size in sizes:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-length: %d\r\n" % size in head
            assert len(await reader.readexactly(size)) == size
        writer.close()


# ---- requests that ask for another protocol


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Tell what was asked."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    told = [scope["method"], scope["path"], len(body), [k.decode() for k, _ in scope["headers"]]]
    content = json.dumps(told).encode()
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def asking(upgrade: str, body: bytes, *, chunked: bool = False, method: str = "POST") -> bytes:
    length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    if chunked:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = (
        f"{method} /p?q HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\n"
        f"upgrade: {upgrade}\r\nhttp2-settings: AAEAAEAA\r\n{length}\r\n\r\n"
    )
    return head.encode() + body


async def answer_on(reader: asyncio.StreamReader) -> Any:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    return json.loads(await reader.readexactly(length))


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
@pytest.mark.parametrize("step", [1, 7, 10_000_000], ids=["bytewise", "in pieces", "at once"])
async def test_a_wish_for_another_protocol_is_ignored(
    upgrade: str, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [
        asking(upgrade, b"b" * 300),
        asking(upgrade, b"c" * 20, chunked=True),
        asking(upgrade, b"", method="GET"),
        asking("", b"d" * 5).replace(b"upgrade: \r\n", b""),
    ]
    data = b"".join(requests)
    kept = ["host", "connection", "http2-settings"]
    with caplog.at_level(logging.WARNING):
        async with listening(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for start in range(0, len(data), step):
                writer.write(data[start : start + step])
                await writer.drain()
                await asyncio.sleep(0)
            told = [await answer_on(reader) for _ in requests]
            writer.close()
    assert told == [
        ["POST", "/p", 300, [*kept, "content-length"]],
        ["POST", "/p", 20, [*kept, "transfer-encoding"]],
        ["GET", "/p", 0, [*kept, "content-length"]],
        ["POST", "/p", 5, [*kept, "content-length"]],
    ]
    assert not caplog.records, "nobody is told to install what would change nothing"


async def test_thousands_of_such_wishes_in_one_piece_are_all_answered() -> None:
    many = 3000
    async with listening(echo, Limits(requests_ahead=many)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asking("h2c", b"b") * many)
        told = [await answer_on(reader) for _ in range(many)]
        writer.close()
    assert all(one[:3] == ["POST", "/p", 1] for one in told)


LAST = [
    ("HTTP/1.1", "connection: close, Upgrade\r\n"),
    ("HTTP/1.1", "connection: Upgrade\r\nconnection: close\r\n"),
    ("HTTP/1.1", "connection: Upgrade\r\nproxy-connection: close\r\n"),
    ("HTTP/1.0", "connection: Upgrade\r\n"),
    ("HTTP/1.0", "connection: keep-alive, Upgrade\r\n"),
]
"""Of requests that ask for another protocol, and are the last of their connection."""


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
@pytest.mark.parametrize("step", [1, 10_000_000], ids=["bytewise", "at once"])
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("version", "connection"), LAST)
async def test_such_a_wish_in_the_last_request_is_ignored_too(
    version: str, connection: str, method: str, chunked: bool, step: int, upgrade: str
) -> None:
    body = b"b" * 300
    last = asking(upgrade, body, chunked=chunked, method=method)
    last = last.replace(b"HTTP/1.1", version.encode())
    last = last.replace(b"connection: Upgrade, HTTP2-Settings\r\n", connection.encode())
    data = asking(upgrade, b"c" * 20) + last
    async with listening(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await asyncio.sleep(0)
        told = [await answer_on(reader) for _ in range(2)]
        assert await reader.read() == b"", "it closes, as asked"
        writer.close()
    assert [one[:3] for one in told] == [["POST", "/p", 20], [method, "/p", 300]]


HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", "'x:80'"),
        (
            b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            "'x:80'",
        ),
        (b"CONNECT /p HTTP/1.1\r\nhost: x\r\n\r\n", "CONNECT"),
        (b"FETCH / HTTP/1.1\r\nhost: x\r\n\r\n", "Invalid method"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "Invalid method"),
        (b"GET http://[x HTTP/1.1\r\nhost: x\r\n\r\n", "http://[x"),
        (HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "Content-Length"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nx\r\n", "chunk"),
        (HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n1\r\nb\r\n", "'gzip, chunked'"),
        (HEAD + b"transfer-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n", "'br,chunked'"),
        (HEAD + b"transfer-encoding: identity\r\n\r\n", "'identity'"),
        (b"GET /livez\r\n\r\n", "HTTP/0.9"),
        (b"GET /livez HTTP/0.9\r\nhost: x\r\n\r\n", "HTTP/0.9"),
        (b"GET /livez HTTP/2.0\r\nhost: x\r\n\r\n", "HTTP/2.0"),
    ],
)
async def test_what_is_no_request_is_a_problem_and_the_end(data: bytes, why: str) -> None:
    async with listening(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    first, *lines = head.decode().split("\r\n")
    assert first == "HTTP/1.1 400 Bad Request"
    told = dict(line.split(": ", 1) for line in lines)
    assert told["content-type"] == "application/problem+json"
    assert told["content-length"] == str(len(body))
    assert told["connection"] == "close"
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("about:blank", 400)
    assert why in problem["detail"]


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
FAULTS = [b"FETCH / HTTP/1.1\r\n", HEAD + b"a\x00: b\r\n", CHUNKED + b"x\r\n", CHUNKED + b"1\r\nbx"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("step", [9, 10_000], ids=["in pieces", "at once"])
async def test_what_is_no_request_loses_no_earlier_answer(
    fault: bytes, before: int, step: int
) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(0.02)
            await echo(scope, receive, send)

    data = asking("", b"1") * before + fault
    async with listening(late) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await asyncio.sleep(0)
        statuses = [await status(reader) for _ in range(before + 1)]
        assert await reader.read() == b""
        writer.close()
    assert statuses == [b"200"] * before + [b"400"]


async def test_an_answer_to_a_body_that_turns_out_malformed_is_sent() -> None:
    async def early(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] == "http":
            await respond(send, 405, "text/plain", [b"a" * 3_000_000])

    async with listening(Observed(early, Metrics())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(CHUNKED)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x\r\n")
        body = await reader.read()
        writer.close()
    assert head.startswith(b"HTTP/1.1 405")
    assert body == b"a" * 3_000_000


async def test_a_length_may_begin_with_any_number_of_zeros() -> None:
    async with listening(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: ")
        writer.write(b"0" * 5000 + b"2\r\n\r\n12")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def test_what_follows_a_body_is_no_header() -> None:
    async with listening(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\naccept: a/b\r\n\r\n")
        told = await answer_on(reader)
        writer.close()
    assert told == ["POST", "/", 1, ["host", "transfer-encoding"]]


def overloaded(**headers: str) -> bytes:
    """Return a question that is refused, and half of its body."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /knowledge HTTP/1.1\r\n{lines}content-length: 10\r\n\r\n12345".encode()


async def test_what_is_too_much_is_refused_before_its_body_and_the_connection_stays() -> None:
    metrics = Metrics()
    metrics.routes = ["/knowledge"]
    async with listening(echo, metrics=metrics, admission=Admission(0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(overloaded(**{"x-request-id": "abc-1"}))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nx-request-id: abc-1\r\n" in head
            assert re.search(rb"\r\nretry-after: [123]\r\n", head)
            assert b"connection: close" not in head
            size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
            problem = json.loads(await reader.readexactly(size))
            assert problem == msgspec.to_builtins(problem_of(OverloadedError()).details)
            writer.write(b"67890")
        writer.write(b"HEAD /versions HTTP/1.1\r\n\r\nGET /livez HTTP/1.1\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
    metrics.add_tally()
    counted = metrics.render(None, True).decode()
    assert 'gkc_rejected_total{reason="overloaded"} 4.0' in counted
    assert 'gkc_requests_total{code="503",route="/knowledge"} 3.0' in counted
    assert 'gkc_requests_total{code="503",route="other"} 1.0' in counted


async def test_a_refusal_ends_the_connection_where_its_caller_wants_that() -> None:
    async with listening(echo, admission=Admission(0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(overloaded(connection="close"))
        answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 503") == 1
    assert b"\r\nconnection: close\r\n" in answer


async def test_what_follows_the_last_refusal_of_a_connection_is_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As while a worker leaves: each answer ends its connection."""
    leaving = b"connection: close\r\n", True
    monkeypatch.setattr(Connections, "default_head", lambda *_: leaving)
    async with listening(echo, admission=Admission(0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(3 * overloaded() + b"no request at all\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 503") == 1
    assert answer.count(b"HTTP/1.1") == 1
    assert not caplog.records


async def test_refusals_stay_in_order_behind_answers() -> None:
    async with listening(echo, admission=Admission(1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asking("", b"1") * 3)
        statuses = [await status(reader) for _ in range(3)]
        writer.close()
    assert statuses == [b"200", b"503", b"503"]


@pytest.mark.parametrize("seconds", [0.01, 60.0])
async def test_who_is_refused_among_very_many_is_not_read_for_a_moment(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_PAUSE_SECONDS", (seconds, seconds))
    async with listening(echo, admission=Admission(0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers, other = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /versions HTTP/1.1\r\n\r\n" * (FREE_REFUSALS + 1))
        for _ in range(FREE_REFUSALS + 1):
            assert await status(reader) == b"503"
        writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
        for _ in range(2):  # what came earlier has been looked at by then
            other.write(b"GET /livez HTTP/1.1\r\n\r\n")
            assert await status(answers) == b"200"
        if seconds < 1:
            assert await status(reader) == b"200"
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(status(reader), 0.1)
        writer.close()
        other.close()


async def status(reader: asyncio.StreamReader) -> bytes:
    """Read an answer, and return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
    return head[9:12]


# ---- callers who hang up


class Waiting:
    """An application that never answers, and tells what became of each of its requests."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.dropped: list[str] = []
        self.has_begun = asyncio.Event()
        self.has_dropped = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body", False):
            pass
        self.began.append(scope["path"])
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.dropped.append(scope["path"])
            self.has_dropped.set()


def to(path: str, body: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


@pytest.mark.parametrize("size", [0, 10, 1_000_000])
@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
async def test_who_hangs_up_is_worked_for_no_longer(
    size: int, is_reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app, metrics = Waiting(), Metrics()
    metrics.routes = ["/a"]
    async with listening(Observed(app, metrics)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(to("/a", b"b" * size))
        await app.has_begun.wait()
        if is_reset:
            writer.transport.abort()
        writer.close()
        await app.has_dropped.wait()
    metrics.add_tally()
    assert 'code="499",route="/a"} 1.0' in metrics.render(None, True).decode()
    assert not caplog.records


async def test_what_is_queued_behind_it_is_dropped_too(caplog: pytest.LogCaptureFixture) -> None:
    app = Waiting()
    async with listening(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(map(to, ("/a", "/b", "/c"))))
        await app.has_begun.wait()
        writer.close()
        await app.has_dropped.wait()
    assert (app.began, app.dropped) == (["/a"], ["/a"])
    assert not caplog.records
