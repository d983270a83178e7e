"""Signals to the processes of ``gkc serve`` while callers ask: what was accepted is answered."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.commands import Place, free_port, start, wait_for
from tests.gkc.world import make_world

BODY = json.dumps({"u": 7, "i": [11, 12, 13], "v": "v1"}).encode()
HEAD = (
    b"POST /knowledge HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY)
)
CALLERS = 4


class Served:
    """A running ``gkc serve``."""

    def __init__(self, place: Place, *args: object, env: Mapping[str, str]) -> None:
        self.port = free_port()
        command = ("gkc", "serve", "--port", self.port, *args)
        self.process = start(*command, place=place, env=env, stderr=subprocess.PIPE)
        wait_for(f"http://127.0.0.1:{self.port}/readyz", self.process)

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.connect()
        return connection

    def workers(self) -> set[int]:
        """Return the processes that answer requests, as the kernel lists them."""
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@contextmanager
def served(tmp_path: Path, *args: object, **env: str) -> Iterator[Served]:
    place = Place(f"file:{tmp_path / 'store'}", "default")
    make_world().publish(place.url)
    opened = Served(place, *args, env=env)
    try:
        yield opened
    finally:
        opened.process.kill()
        opened.process.communicate()


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{holds} does not hold after {seconds} s"
        time.sleep(0.01)


def ask(connection: http.client.HTTPConnection, method: str, path: str) -> http.client.HTTPResponse:
    headers = {"content-type": "application/json"}
    connection.request(method, path, BODY if method == "POST" else None, headers)
    response = connection.getresponse()
    response.read()
    return response


@contextmanager
def asking(opened: Served) -> Iterator[Counter[str]]:
    """Have callers ask all the time, each on a connection that it keeps; count what they get.

    A connection that is refused was not accepted: it counts as such, and is tried again.
    """
    seen: Counter[str] = Counter()
    stop = threading.Event()

    def call() -> None:
        connection = None
        while not stop.is_set():
            try:
                connection = connection or opened.connect()
            except ConnectionRefusedError:
                seen["refused"] += 1
                time.sleep(0.01)
                continue
            try:
                response = ask(connection, "POST", "/knowledge")
                seen[str(response.status)] += 1
            except (OSError, http.client.HTTPException) as exc:
                seen[repr(exc)] += 1
                response = None
            if response is None or response.will_close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: seen["200"] > 10 * CALLERS)
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_hangup_replaces_the_only_worker_and_no_request_fails(tmp_path: Path) -> None:
    with served(tmp_path) as opened:
        with asking(opened) as seen:
            before = opened.workers()
            assert len(before) == 1
            opened.process.send_signal(signal.SIGHUP)
            until(lambda: not opened.workers() & before)
            asked = seen["200"]
            until(lambda: seen["200"] > asked + 10 * CALLERS)
            assert len(opened.workers()) == 1
        assert set(seen) == {"200"}


def test_nobody_meets_a_worker_that_has_loaded_nothing_yet(tmp_path: Path) -> None:
    def kill_and_ask_on() -> None:
        (killed,) = opened.workers()
        os.kill(killed, signal.SIGKILL)
        until(lambda: opened.workers() not in (set(), {killed}))
        asked = seen["200"]
        until(lambda: seen["200"] > asked + 10 * CALLERS)

    with served(tmp_path) as opened, asking(opened) as seen:
        for _ in range(4):
            kill_and_ask_on()
    assert seen["503"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_replaced_worker_has_under_way_outlives_the_service(
    tmp_path: Path, number: signal.Signals
) -> None:
    with (
        served(tmp_path) as opened,
        closing(opened.connect()) as kept,
        socket.create_connection(("127.0.0.1", opened.port), timeout=10) as slow,
    ):
        slow.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b" 200 " in slow.recv(1000)
        slow.sendall(HEAD + BODY[:10])
        (replaced,) = opened.workers()
        opened.process.send_signal(signal.SIGHUP)
        until(lambda: ask(kept, "GET", "/livez").getheader("connection") == "close")
        opened.process.send_signal(number)
        time.sleep(0.3)
        slow.sendall(BODY[10:])
        assert slow.recv(12) == b"HTTP/1.1 200"
        until(lambda: not Path(f"/proc/{replaced}").exists())
        _, stderr = opened.process.communicate(timeout=10)
        assert "Traceback" not in stderr


def test_until_it_stops_listening_it_sends_callers_elsewhere(tmp_path: Path) -> None:
    env = {"GKC_DRAIN_DELAY_SECONDS": "1", "GKC_DRAIN_SECONDS": "0.3"}
    with served(tmp_path, **env) as opened, closing(opened.connect()) as kept:
        assert ask(kept, "GET", "/livez").getheader("connection") is None
        with socket.create_connection(("127.0.0.1", opened.port), timeout=10) as stalled:
            stalled.sendall(HEAD + BODY[:10])
            opened.process.send_signal(signal.SIGTERM)
            until(lambda: ready_code(opened) == 503)
            with closing(opened.connect()) as new:
                response = ask(new, "POST", "/knowledge")
            assert response.status == 200
            assert response.getheader("connection") == "close"
            assert ask(kept, "GET", "/livez").getheader("connection") == "close"
            _, stderr = opened.process.communicate(timeout=10)
        assert opened.process.returncode == 0
        (line,) = [line for line in stderr.splitlines() if "requests_cut" in line]
        assert json.loads(line)["count"] == 1
        with pytest.raises(ConnectionRefusedError):
            opened.connect()


def ready_code(opened: Served) -> int:
    with closing(opened.connect()) as connection:
        return ask(connection, "GET", "/readyz").status


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_being_urged_ends_the_delay(tmp_path: Path, numbers: list[signal.Signals]) -> None:
    with served(tmp_path, "--workers", 2, GKC_DRAIN_DELAY_SECONDS="3600") as opened:
        for number in numbers:
            opened.process.send_signal(number)
            time.sleep(0.1)
        assert opened.process.wait(timeout=10) == 0
