"""More than can be answered: some are refused at once, others and small ones are answered."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from tests.commands import Place, http_once, service
from tests.gkc.world import make_world

QUESTION = {"u": 7, "i": [11, 12], "v": "v1"}
LONG = QUESTION | {"i": [11] * 30}
"""Its answer as JSON is milliseconds of work, and no large one."""
CALLERS = 120
OPEN = ("livez", "readyz", "metrics")


@dataclass(frozen=True)
class Served:
    url: str
    worker: int

    def connect(self, stack: ExitStack) -> socket.socket:
        caller = stack.enter_context(socket.socket())
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.settimeout(10)
        caller.connect(("127.0.0.1", httpx.URL(self.url).port))
        return caller

    def post(self, question: object) -> httpx.Response:
        return http_once.post(f"{self.url}/knowledge", json=question)

    def overloaded(self) -> float:
        lines = http_once.get(f"{self.url}/metrics").text.splitlines()
        name = 'gkc_rejected_total{reason="overloaded"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = Place(f"file:{tmp_path_factory.mktemp('overload') / 'store'}", "default")
    make_world(dim=600).publish(place.url)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text().split()
    with service(place) as url:
        (parent,) = set(children.read_text().split()).difference(before)
        (worker,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        yield Served(url, int(worker))


def posted(body: bytes) -> bytes:
    head = "POST /knowledge HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def test_of_those_that_come_together_some_are_refused_and_small_ones_never(served: Served) -> None:
    light = posted(json.dumps(QUESTION).encode())
    before = served.overloaded()
    with ExitStack() as stack:
        callers = [served.connect(stack) for _ in range(CALLERS + 1 + len(OPEN))]

        def each_is_answered() -> None:
            for caller in callers:
                caller.sendall(light)
                assert answer(caller).status == 200

        each_is_answered()
        os.kill(served.worker, signal.SIGSTOP)
        try:
            for caller in callers[:CALLERS]:
                caller.sendall(posted(json.dumps(LONG).encode()))
            callers[CALLERS].sendall(light)
            for caller, path in zip(callers[CALLERS + 1 :], OPEN, strict=True):
                caller.sendall(f"GET /{path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        finally:
            os.kill(served.worker, signal.SIGCONT)
        answers = [answer(caller) for caller in callers]
        statuses = Counter(a.status for a in answers[:CALLERS])
        assert set(statuses) == {200, 503}
        assert [a.status for a in answers[CALLERS:]] == [200] * (1 + len(OPEN))
        each_is_answered()
    assert served.overloaded() == before + statuses[503]


def answer(caller: socket.socket) -> HTTPResponse:
    response = HTTPResponse(caller)
    response.begin()
    body = response.read()
    assert response.status != 503 or json.loads(body)["type"] == "urn:gkc:problem:overloaded"
    assert (response.status == 503) == (response.headers.get("retry-after") in ("1", "2", "3"))
    return response


def test_large_answers_that_nobody_reads_keep_out_large_ones_and_no_others(served: Served) -> None:
    large = QUESTION | {"i": [11] * 3000}
    assert served.post(large).status_code == 200
    before = served.overloaded()
    with ExitStack() as stack:
        callers = [served.connect(stack) for _ in range(3)]
        for caller in callers:
            caller.sendall(posted(json.dumps(large).encode()))
        statuses = [caller.recv(12)[9:] for caller in callers]
        assert sorted(statuses) == [b"200", b"503", b"503"]
        refused = served.post(large)
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:gkc:problem:overloaded"
        assert served.post(QUESTION).status_code == 200
    assert served.overloaded() == before + 3
    assert served.post(large).status_code == 200
