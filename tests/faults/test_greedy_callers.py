"""Whatever one caller sends, or does not send, or does not read: others are answered meanwhile."""

from __future__ import annotations

import json
import re
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.commands import free_port, http_once, logged_service
from tests.gkc.world import make_world

DESCRIPTORS = 120
CALLERS = 40
SERVE = """
from gkc.http.limits import Limits
from gkc.http.serve import serve
from gkc.settings import Settings

quick = Limits(
    head_seconds=0.3, body_seconds=0.3, write_seconds=0.3, idle_seconds=0.6,
    linger_seconds=0.3, look_seconds=0.05,
)
serve(Settings(), print, quick)
"""
QUESTION = {"u": 7, "i": [11, 12], "v": "v1"}
HEAD = b"POST /knowledge HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
MEBIBYTES_8 = 8 << 20


@dataclass(frozen=True)
class Service:
    port: int
    log: Path
    parent: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def samples(self, name: str) -> dict[str, float]:
        """Return a metric's values by their labels."""
        text = http_once.get(f"{self.url}/metrics").text
        found = re.findall(rf"^{name}(\{{\S*\}})? (\S+)$", text, flags=re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def rejected(self) -> dict[str, float]:
        counts = self.samples("gkc_rejected_total")
        return {labels.split('"')[1]: count for labels, count in counts.items()}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service that has little patience, and few descriptors."""
    folder = tmp_path_factory.mktemp("greedy")
    store = f"file:{folder / 'store'}"
    make_world(dim=600).publish(store)
    found = Service(free_port(), folder / "log")
    limited = f"ulimit -n {DESCRIPTORS}; exec env GKC_STORE_URL={store} GKC_PORT={found.port} $0 -c"
    command = ["bash", "-c", f'{limited} "$1"', sys.executable, SERVE]
    with logged_service(command, found.log, found.url) as process:
        yield replace(found, parent=process.pid)


def whole(body: bytes) -> bytes:
    return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


def repeated(item: bytes) -> bytes:
    """Return a question with as many of these as items as 8 MiB hold."""
    before, after = b'{"u":7,"v":"v1","i":[', b"1]}"
    return before + item * ((MEBIBYTES_8 - len(before) - len(after)) // len(item)) + after


UNKNOWN = b"{" + b",".join(b'"%x":0' % k for k in range(800_000)) + b"}"
VERSIONS = json.dumps({"u": 7, "i": 11, "v": [f"v{k}" for k in range(9000)]}).encode()
LARGE = json.dumps(QUESTION | {"i": [11] * 400}).encode()

ATTACKS = {
    "head": (4, HEAD + b"a: " + b"b" * 3_000_000, "head-too-large"),
    "headers": (4, HEAD + b"accept:a\r\n" * 300_000 + b"\r\n", "head-too-large"),
    "URL": (4, b"GET /" + b"a" * 3_000_000, "url-too-long"),
    "extension": (
        4,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"a" * 3_000_000,
        "head-too-large",
    ),
    "slow head": (CALLERS, HEAD, "slow-request"),
    "slow body": (CALLERS, HEAD + b"content-length: 9\r\n\r\n{", "slow-request"),
    "idle": (3 * DESCRIPTORS, b"", None),
    "blank": (CALLERS, b"\r\n", None),
    "never read": (4, whole(LARGE), "slow-reader"),
    "versions": (4, whole(VERSIONS), "too-many-versions"),
    "unknown fields": (2, whole(UNKNOWN), "too-many-rows"),
    **{
        f"{item.decode()} {MEBIBYTES_8}": (2, whole(repeated(item)), "too-many-rows")
        for item in (b"1,", b"[],", b"{},", b"1e999,", b'"",', b"[")
    },
}


@pytest.mark.parametrize(("callers", "sent", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_others_are_answered_meanwhile(
    served: Service, callers: int, sent: bytes, reason: str | None
) -> None:
    before = served.rejected()
    with ExitStack() as stack, httpx.Client(base_url=served.url, timeout=10) as other:
        if reason is not None:
            assert other.post("/knowledge", json=QUESTION).status_code == 200
        for _ in range(callers):
            caller = stack.enter_context(socket.socket())
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.settimeout(10)
            with suppress(ConnectionError):  # it is refused before all of it is sent
                caller.connect(("127.0.0.1", served.port))
                caller.sendall(sent)
        if reason is not None:
            for _ in range(10):
                assert other.post("/knowledge", json=QUESTION).status_code == 200
        until_answered(served)
        if reason is not None:
            until_rejected(served, reason, before.get(reason, 0) + 1)


def test_who_hangs_up_is_worked_for_no_longer(served: Service) -> None:
    gone = '{code="499",route="/knowledge"}'
    before = served.samples("gkc_requests_total").get(gone, 0)
    for _ in range(CALLERS):
        with socket.create_connection(("127.0.0.1", served.port)) as caller:
            caller.sendall(whole(LARGE))
    deadline = time.monotonic() + 20
    while served.samples("gkc_requests_total").get(gone, 0) == before:
        assert time.monotonic() < deadline, "nobody is counted who hung up"
        time.sleep(0.02)
    until_answered(served)
    assert "asgi" not in served.log.read_text().lower(), "it is no fault of ours"


def until_answered(served: Service) -> None:
    """Wait until a new caller is let in, and the greedy ones are gone."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            answer = http_once.post(f"{served.url}/knowledge", json=QUESTION)
            assert answer.status_code == 200
            are_left = served.samples("gkc_open_connections")[""] > 2
            if not are_left and not served.samples("gkc_answer_bytes_inflight")[""]:
                return
        time.sleep(0.05)
    raise AssertionError("connections stay open")


def until_rejected(served: Service, reason: str, times: float) -> None:
    deadline = time.monotonic() + 20
    while served.rejected()[reason] < times:
        assert time.monotonic() < deadline, f"{reason} is not counted"
        time.sleep(0.05)


def test_few_descriptors_are_told(served: Service) -> None:
    assert "few_descriptors" in served.log.read_text()


def descriptors_kept(pid: int) -> set[int]:
    """Return the descriptors of a process that it does not open and close all the time."""
    looks: list[set[int]] = []
    for _ in range(10):
        looks.append({int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()})
        time.sleep(0.01)
    return set.intersection(*looks)


def test_a_worker_that_has_no_descriptor_left_goes_on_says_so_and_recovers(served: Service) -> None:
    children = Path(f"/proc/{served.parent}/task/{served.parent}/children")
    worker = int(children.read_text(encoding="ascii"))
    told = '"event": "catalogue_not_read"'
    before = served.log.read_text().count(told)
    with httpx.Client(base_url=served.url, timeout=10) as kept:
        assert kept.post("/knowledge", json=QUESTION).status_code == 200
        kept_open = descriptors_kept(worker)
        free = next(number for number in count() if number not in kept_open)
        limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            for _ in range(3):
                with pytest.raises(httpx.TransportError):
                    http_once.get(f"{served.url}/livez")
                assert kept.post("/knowledge", json=QUESTION).status_code == 200
            deadline = time.monotonic() + 10
            while served.log.read_text().count(told) == before:
                assert time.monotonic() < deadline, "nothing is told"
                time.sleep(0.05)
        finally:
            resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
    until_answered(served)
    (line,) = [x for x in served.log.read_text().splitlines() if told in x][before:]
    assert "Too many open files" in line
