from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from bench.bundles import USER_ID_STEP
from bench.processes import free_port
from bench.stage import Stage
from bench.world import Shape
from loadtest import run
from loadtest.checks import fault
from loadtest.presets import PRESETS, Name
from loadtest.run import known_by, known_of, own_service
from loadtest.traffic import Ids, draw

TINY = Shape(users=20, items=60, pairs=4, categories=5, dim=4)


def version(name: str = "20211220", **changes: Any) -> dict[str, Any]:
    told = {"version": name, "users": 50, "items": 70, "dim": 64, "category_dim": 32, "ready": True}
    return told | changes


@contextmanager
def listing(body: bytes, status: int = 200) -> Iterator[str]:
    """Answer GET with this body; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def versions(*told: dict[str, Any]) -> bytes:
    return json.dumps({"max_versions": 5, "versions": told}).encode()


def test_a_running_service_tells_what_it_knows() -> None:
    body = versions(version(), version("20211219", users=80, dim=16), version("new", ready=False))
    with listing(body) as host:
        every, one = known_by(host, ()), known_by(host, ["20211220"])
    assert every.widths == {"20211220": 224, "20211219": 80}
    assert (every.users, every.items) == (Ids(80, 1), Ids(70, 1))
    assert not every.is_complete
    assert one.widths == {"20211220": 224}
    assert one.users == Ids(50, 1)


@pytest.mark.parametrize(
    ("body", "wanted", "told"),
    [
        (versions(), [], "serves no version; export one with gkc-export"),
        (versions(version(ready=False)), [], "serves no version; export one with gkc-export"),
        (versions(version()), ["x"], "does not serve x, but 20211220"),
        (b"<html>", [], "no gkc service at"),
        (b"[]", [], "no gkc service at"),
        (b"{}", [], "no gkc service at"),
    ],
)
def test_a_service_that_cannot_be_tested_is_named(
    body: bytes, wanted: list[str], told: str
) -> None:
    with listing(body) as host, pytest.raises(SystemExit, match=told):
        known_by(host, wanted)


def test_a_host_that_answers_with_an_error_is_no_service() -> None:
    with listing(b"", 503) as host, pytest.raises(SystemExit, match="503"):
        known_by(host, ())


@pytest.mark.parametrize("host", ["http://127.0.0.1:{port}", "localhost:8000"])
def test_a_host_where_nobody_listens_is_named(host: str) -> None:
    host = host.format(port=free_port())
    with pytest.raises(SystemExit, match=r"no gkc service at .*; start one with `make up`"):
        known_by(host, ())


def test_without_redis_the_own_service_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with Stage() as stage, pytest.raises(SystemExit, match="no redis-server"):
        own_service(stage, TINY)


def _main(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(run.main)
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["stress", "--rate", "5"], "stress has no rate"),
        (["--version", "x"], "--version goes with --host"),
        (["endless"], "'endless' is not one of"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], told: str) -> None:
    result = _main(*arguments)
    assert result.exit_code == 2
    assert told in result.output


def test_every_name_is_a_preset() -> None:
    assert PRESETS.keys() == set(Name)


def test_what_was_made_has_the_ids_of_the_bundle() -> None:
    known = known_of(TINY)
    assert known.users == Ids(20, 0, USER_ID_STEP)
    assert set(known.widths.values()) == {16}
    assert len(known.widths) == 2


@pytest.mark.slow
@pytest.mark.redis
def test_the_own_service_answers_the_traffic_as_it_is_checked() -> None:
    with Stage() as stage:
        server = own_service(stage, TINY)
        known = known_of(TINY)
        with httpx.Client(base_url=server.url) as client:
            for question in draw(known, 60):
                answer = client.post(
                    "/knowledge", json=question.body, headers={"Accept": question.accept}
                )
                assert answer.status_code == 200
                assert fault(question, answer.content, known.widths, is_complete=True) == ""
            widths = known_by(str(client.base_url).rstrip("/"), ()).widths
    assert widths == known.widths
