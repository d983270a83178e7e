"""A run of wrk: what is sent, what is counted, and what counts as failed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, islice
from pathlib import Path
from threading import Thread

import pytest

from bench.load import Ask, load, write_bodies
from bench.processes import Server, free_port

pytestmark = pytest.mark.usefixtures("wrk")

CORES = os.sched_getaffinity(0)


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    return write_bodies([{"u": user} for user in (1, 2, 3)], tmp_path / "bodies")


@pytest.mark.slow
def test_answers_their_times_and_the_servers_cpu_time_are_counted(
    empty: Server, bodies: Path
) -> None:
    before = empty.cpu_seconds()
    found = load(Ask(empty, bodies, "*/*", 2), CORES, seconds=1)
    taken = empty.cpu_seconds() - before
    assert found.requests > 0
    assert found.failed == 0
    assert found.bytes_read > found.requests
    assert found.rate == found.requests / found.seconds
    assert 0 < found.p50_ms <= found.p99_ms
    assert 0 < found.cpu_ms * found.requests <= 1000 * taken * 1.001  # of rounding


@pytest.mark.slow
def test_an_answer_that_says_no_has_failed(empty: Server, bodies: Path) -> None:
    found = load(Ask(empty, bodies, "*/*", 2, "/nowhere"), CORES, seconds=1)
    assert found.failed == found.requests > 0


class _Listener(BaseHTTPRequestHandler):
    """Notes what it is sent."""

    protocol_version = "HTTP/1.1"
    came: list[tuple[str, str | None, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.came.append((self.path, self.headers["Accept"], body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _listening(came: list[tuple[str, str | None, bytes]]) -> Iterator[Server]:
    handler = type("Handler", (_Listener,), {"came": came})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Server("listening", os.getpid(), server.server_port)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_bodies_are_sent_in_turn(bodies: Path) -> None:
    came: list[tuple[str, str | None, bytes]] = []
    with _listening(came) as server:
        found = load(Ask(server, bodies, "text/plain", 1), CORES, seconds=1)
    assert len(came) >= found.requests > 3  # one more may be under way at the end
    assert {(path, accept) for path, accept, _ in came} == {("/knowledge", "text/plain")}
    users = [json.loads(body)["u"] for _, _, body in came]
    assert users == list(islice(cycle((1, 2, 3)), users[0] - 1, users[0] - 1 + len(users)))


def test_a_server_that_is_not_there_ends_it(bodies: Path) -> None:
    nobody = Server("nobody", os.getpid(), free_port())
    with pytest.raises(SystemExit, match=r"wrk failed: .*unable to connect"):
        load(Ask(nobody, bodies, "*/*", 1), CORES, seconds=1)
