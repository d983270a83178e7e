"""A service over HTTP: what it answers, and what of its lies is found."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from time import monotonic
from types import FrameType
from typing import Any

import numpy as np
import pytest

from gkc import AsyncClient, Client, safetensors
from gkc.client.question import question_of
from gkc.client.service import HttpSource
from gkc.errors import (
    GkcError,
    LockMismatchError,
    ServiceError,
    StoreError,
    UnauthorizedError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from gkc.lock import Lock, LockedVersion
from tests.gkc.client.clients import Open
from tests.gkc.client.hostile import (
    CLOSE,
    Asked,
    Piece,
    hostile,
    http,
    listing,
    problem,
    right,
    rows,
)

WIDE = 20.0
ASK = {"u": 7, "i": [1, 2, 3], "v": "v1"}
STATUS = np.ones((3, 4), dtype=np.uint8)


def test_a_right_answer_is_handed_out(client_of: Open) -> None:
    with hostile(right) as server, client_of(server.url) as client:
        answers = [client.knowledge(**ASK) for _ in range(3)]
    answer = answers[-1]
    assert answer.rows.tolist() == np.arange(21).reshape(3, 7).tolist()
    assert answer.parts["user_category"] == (6, 7)
    assert server.connections == 1
    assert [each.method for each in server.asked] == ["POST", "GET", "POST", "POST"]


def test_a_key_goes_along_with_each_request_and_is_shown_nowhere(client_of: Open) -> None:
    reports: list[object] = []
    with (
        hostile(right) as server,
        client_of(server.url, api_key="gkc_secret", on_request=reports.append) as client,
    ):
        client.knowledge(**ASK)
    assert {each.headers["authorization"] for each in server.asked} == {"Bearer gkc_secret"}
    for kind in (Client, AsyncClient):
        made = kind(server.url, api_key="gkc_secret")
        assert "secret" not in repr((made, vars(made), reports))
        assert pickle.loads(pickle.dumps(made.__getstate__())) == made.__getstate__()


def test_a_refused_key_is_an_error_of_its_own_and_not_tried_again(client_of: Open) -> None:
    answer = problem("401 Unauthorized", "unauthorized")
    with hostile(lambda _: [answer]) as server, client_of(server.url, api_key="k") as client:
        with pytest.raises(UnauthorizedError, match="because"):
            client.knowledge(**ASK)
        assert len(server.asked) == 1


def test_the_request_says_what_it_is_and_how_long_it_may_take(client_of: Open) -> None:
    with hostile(right) as server, client_of(server.url, timeout=30) as client:
        client.knowledge(**ASK)
    first = server.asked[0]
    assert (first.path, first.headers["host"]) == ("/knowledge", server.url.partition("//")[2])
    assert first.headers["accept"] == "application/x-safetensors"
    assert 0 < int(first.headers["x-request-timeout-ms"]) <= 30_000


def test_a_prefix_of_the_url_is_kept(client_of: Open) -> None:
    with hostile(right) as server, client_of(f"{server.url}/center/a/") as client:
        client.knowledge(**ASK)
    assert {each.path for each in server.asked} == {"/center/a/knowledge", "/center/a/versions"}


LIES: dict[str, tuple[bytes, str]] = {
    "another type": (http(rows(3), content_type="text/html"), "answers text/html"),
    "no type": (http(rows(3), content_type=""), "answers no type"),
    "compressed": (http(rows(3), Content_Encoding="gzip"), "encoded as gzip"),
    "no safetensors": (http(b"nonsense"), "cannot be read"),
    "half a body": (http(rows(3)[:-40]), "cannot be read"),
    "bad metadata": (http(rows(3, versions=[1])), "cannot be read"),
    "a tensor more": (http(rows(3, more=STATUS)), "holds the tensors"),
    "a row less": (http(rows(2)), "status is uint8 of shape [2, 4]"),
    "knowledge less": (http(rows(3, knowledge=np.ones((2, 7), np.float32))), "shape [2, 7], not"),
    "no status": (http(rows(3, status=None)), "and no status"),
    "a status less": (http(rows(3, status=STATUS[:2])), "status is uint8 of shape [2, 4]"),
    "wide status": (http(rows(3, status=STATUS.astype(np.int64))), "status is int64"),
    "a status of 3": (http(rows(3, status=STATUS * 3)), "status holds 3"),
    "doubles": (http(rows(3, knowledge=np.ones((3, 7)))), "knowledge is float64"),
    "narrow rows": (http(rows(3, knowledge=np.ones((3, 6), np.float32))), "shape [3, 6]"),
    "another version": (http(rows(3, versions={"v2": "g"})), "answers for versions v2, but v1"),
    "a version more": (http(rows(3, versions={"v1": "g", "v2": "g"})), "versions v1, v2, but v1"),
    "no generation": (http(rows(3, versions={"v1": ""})), "names no generation"),
    "a part less": (http(rows(3, parts={"user": [0, 7]})), "has the parts user, but"),
    "parts apart": (
        http(rows(3, parts={"user": [0, 1], "item": [2, 4], "user_item": [4, 6],
                            "user_category": [6, 7]})),
        "do not lie side by side",
    ),
    "unequal parts": (
        http(rows(3, parts={"user": [0, 1], "item": [1, 4], "user_item": [4, 6],
                            "user_category": [6, 7]})),
        "do not lie side by side",
    ),
    "a backward part": (
        http(rows(3, parts={"user": [0, 2], "item": [2, 4], "user_item": [4, 6],
                            "user_category": [6, 5]})),
        "do not lie side by side",
    ),
    "another page": (http(b"<p>hello</p>", status="404 Not Found"), "answers status 404"),
    "a redirect": (http(b"", status="307 Temporary Redirect"), "answers status 307"),
    "a bad problem": (
        http(b"{}", status="503 Sad", content_type="application/problem+json"),
        "answers status 503 and says '{}'",
    ),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP/1.1"),
    "a status of 0": (b"HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n", "does not speak HTTP"),
    "nothing new": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "answers status 304"
    ),
    "a greeting": (b"220 mail ESMTP\r\n", "does not speak HTTP/1.1"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x16", "does not speak HTTP/1.1"),
    "an endless head": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "head of more than"),
    "a body of petabytes": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n", "announces a body"
    ),
    "more than it announced": (http(rows(3)) + b"x", "sends more than"),
    "bad length": (b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n", "does not speak HTTP/1.1"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_an_error(client_of: Open, lie: str) -> None:
    answer, words = LIES[lie]

    def reply(asked: Asked) -> Sequence[Piece]:
        return [listing() if asked.method == "GET" else answer]

    with hostile(reply) as server, client_of(server.url, timeout=20) as client:
        with pytest.raises(ServiceError) as caught:
            client.knowledge(**ASK)
        assert len(server.posts()) == 1
    assert words in str(caught.value)
    assert server.url in str(caught.value)


@pytest.mark.parametrize("kept", [0, 1, 60, 100])
def test_an_answer_cut_short_is_an_error(client_of: Open, kept: int) -> None:
    whole = http(rows(3))

    def reply(asked: Asked) -> Sequence[Piece]:
        return [whole[: len(whole) - 10 if kept == 100 else kept], CLOSE]

    with (
        hostile(reply) as server,
        client_of(server.url, retries=0, timeout=20) as client,
        pytest.raises(ServiceError, match="closed the connection"),
    ):
        client.knowledge(**ASK)


def test_a_generation_that_the_service_does_not_list_is_an_error(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        return [listing("0000000009-zz") if asked.method == "GET" else http(rows(asked.rows))]

    with (
        hostile(reply) as server,
        client_of(server.url, timeout=20) as client,
        pytest.raises(ServiceError, match="0000000001-aa of version 'v1', which its GET"),
    ):
        client.knowledge(**ASK)


@pytest.mark.parametrize("entry", [{"dim": 3}, {"category_dim": 2}, {"dim": -2}])
def test_widths_that_the_service_does_not_list_are_an_error(
    client_of: Open, entry: dict[str, Any]
) -> None:
    with (
        hostile(lambda a: [listing(**entry)] if a.method == "GET" else right(a)) as server,
        client_of(server.url, timeout=WIDE) as client,
    ):
        for _ in range(2):
            with pytest.raises(ServiceError, match=r"wide, but its GET /versions tells .* 'v1'"):
                client.knowledge(**ASK)


def test_a_previous_generation_may_have_been_of_another_width(client_of: Open) -> None:
    told = listing("0000000002-bb", previous="0000000001-aa", dim=3)
    with (
        hostile(lambda a: [told] if a.method == "GET" else right(a)) as server,
        client_of(server.url, timeout=WIDE) as client,
    ):
        assert client.knowledge(**ASK).rows.shape == (3, 7)


def test_a_generation_that_is_listed_a_bit_later_is_none(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.method == "POST":
            return [http(rows(asked.rows))]
        return [listing("0000000000-zz" if asked.nth < 3 else "0000000001-aa")]

    with hostile(reply) as server, client_of(server.url, timeout=20) as client:
        assert len(client.knowledge(**ASK)) == 3


async def test_an_address_that_lists_nothing_holds_up_no_other() -> None:
    def silent(asked: Asked) -> Iterator[Piece]:
        if asked.method == "GET":
            yield WIDE
        yield from right(asked)

    def slow(asked: Asked) -> Iterator[Piece]:
        yield 0.05  # so that the other one is asked for its list first
        yield from right(asked)

    with hostile(silent) as sick, hostile(slow) as sound:
        async with AsyncClient([sick.url, sound.url], timeout=WIDE) as client:
            tasks = [
                asyncio.create_task(client.knowledge(u=7, i=[1, 2, 3], v="v1")) for _ in range(8)
            ]
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert done.pop().result().rows.shape == (3, 7)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    assert [each.method for each in sick.asked].count("GET") == 1


def test_a_previous_generation_is_known(client_of: Open) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.method == "POST":
            return [http(rows(asked.rows))]
        return [listing("0000000002-bb", previous="0000000001-aa")]

    with hostile(reply) as server, client_of(server.url) as client:
        for _ in range(2):
            client.knowledge(**ASK)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "answer",
    [
        http(b"{", content_type="application/json"),
        http(b"[]", content_type="application/json"),
        http(b'{"versions": [{"version": 3}]}', content_type="application/json"),
        http(b'{"versions": []}', content_type="text/html"),
    ],
)
def test_a_list_of_versions_that_is_none_is_an_error(client_of: Open, answer: bytes) -> None:
    with (
        hostile(lambda _: [answer]) as server,
        client_of(server.url) as client,
        pytest.raises(ServiceError),
    ):
        client.versions()


def test_problems_become_the_errors_that_they_tell_of(client_of: Open) -> None:
    told = {"type": "urn:gkc:problem:unknown-version", "title": "Unknown version", "status": 404}
    body = json.dumps(told | {"detail": "no v1", "versions": ["v0"]}).encode()
    answer = http(body, status="404 Not Found", content_type="application/problem+json")
    with (
        hostile(lambda _: [answer]) as server,
        client_of(server.url) as client,
        pytest.raises(VersionNotFoundError) as caught,
    ):
        client.knowledge(**ASK)
    error = caught.value
    assert (error.detail, error.version, error.known) == ("no v1", "v1", ("v0",))
    assert (error.status, error.title, error.retry_after) == (404, "Unknown version", None)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("version-not-ready", VersionNotReadyError), ("store-unavailable", StoreError)],
)
def test_a_503_tells_when_to_ask_again(client_of: Open, kind: str, error: type[GkcError]) -> None:
    answer = problem("503 Sad", kind, Retry_After="7")
    with (
        hostile(lambda _: [answer]) as server,
        client_of(server.url) as client,
        pytest.raises(error, match="because") as caught,
    ):
        client.knowledge(**ASK)
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)


def test_a_fault_of_the_service_is_an_error_of_the_service(client_of: Open) -> None:
    answer = problem("500 Internal", "internal-error", detail="its log says why")
    with (
        hostile(lambda _: [answer]) as server,
        client_of(server.url) as client,
        pytest.raises(ServiceError, match="its log says why") as caught,
    ):
        client.knowledge(**ASK)
    assert caught.value.status == 500


def test_a_problem_nested_without_end_is_an_error_of_the_service(client_of: Open) -> None:
    deep = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = http(deep, status="400 Bad Request", content_type="application/problem+json")
    with (
        hostile(lambda _: [answer]) as server,
        client_of(server.url, timeout=WIDE) as client,
        pytest.raises(ServiceError, match="it answers status 400"),
    ):
        client.knowledge(**ASK)


@pytest.mark.parametrize(
    ("entry", "error", "words"),
    [
        ({"vector_space": "A"}, LockMismatchError, "vector space and checksum"),
        ({"vector_space": "A", "checksum": None}, LockMismatchError, "vector space and checksum"),
        ({"vector_space": "A", "checksum": 5}, ServiceError, "cannot be read"),
        ({"vector_space": ["A"], "checksum": "c"}, ServiceError, "cannot be read"),
    ],
)
def test_a_locked_client_is_told_of_a_listing_that_says_too_little(
    client_of: Open, entry: dict[str, Any], error: type[GkcError], words: str
) -> None:
    lock = Lock({"v1": LockedVersion("A", "g", "c")})
    with (
        hostile(lambda a: [listing(**entry)] if a.method == "GET" else right(a)) as server,
        client_of(server.url, timeout=WIDE, lock=lock) as client,
        pytest.raises(error, match=words),
    ):
        client.knowledge(**ASK)


@pytest.mark.parametrize("timeout", [3e6, 1e10])
def test_a_timeout_may_be_as_long_as_one_likes(client_of: Open, timeout: float) -> None:
    with hostile(right) as server, client_of(server.url, timeout=timeout) as client:
        assert len(client.knowledge(**ASK)) == 3


def test_null_categories_are_told_by_a_tensor(client_of: Open) -> None:
    with hostile(right) as server, client_of(server.url) as client:
        client.knowledge(u=7, i=5, c=[3, None, 4], v="v1")
    (asked,) = server.posts()
    tensors, _ = safetensors.load(asked.body)
    assert tensors["c_given"].tolist() == [1, 0, 1]
    assert tensors["c"][[0, 2]].tolist() == [3, 4]
    assert tensors["u"].tolist() == [7]


# ---- interrupts


class Interrupt(KeyboardInterrupt):
    """Ctrl-C at a line that a test chooses."""


@contextmanager
def interrupting_at(nth: int) -> Iterator[None]:
    """Interrupt at the nth line of the modules of the service that runs in here."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if "/gkc/client/service" not in frame.f_code.co_filename:
            return None
        if frame.f_code.co_qualname.startswith("Budget."):
            return None  # a tracer can come between `with` and its lock; a signal cannot
        if event == "line":
            lines += 1
            if lines == nth:
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-safetensors\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # closed all the same
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_interrupt_reaches_the_caller_and_leaves_nothing_behind(is_chunked: bool) -> None:
    def reply(asked: Asked) -> Sequence[Piece]:
        if asked.method == "GET" or not is_chunked:
            return right(asked)
        body = rows(asked.rows)
        return [CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)]

    with hostile(reply) as server:
        source = Client(server.url, timeout=WIDE, retries=0)._source
        assert isinstance(source, HttpSource)
        question = question_of(7, [1, 2, 3], None, "v1", None, "f32")
        addresses = source._service.addresses.all
        with closing(source):
            for nth in count(1):
                try:
                    with interrupting_at(nth):
                        source.knowledge(question, monotonic() + WIDE)
                    break
                except Interrupt:
                    pass  # what its traceback holds goes with it
                assert not addresses[0].under_way
                assert len(source.knowledge(question, monotonic() + WIDE).rows) == 3
        assert nth > 100
