"""Only those are answered who show what is asked for; no log shows that, nor what they asked."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gkc import Client
from gkc.errors import UnauthorizedError
from gkc.http.api_keys import line_of, new_key
from gkc.store import Origin
from gkc.store.table_format import PAGE_BYTES
from tests.commands import BIN, free_port, http_once, logged_service
from tests.gkc.cli.in_process import gkc
from tests.gkc.world import World, make_world, named
from tests.redis_server import make_certificate

STRINGS = ("user", "item", "category")
USER, ITEM = named("user", 7, STRINGS), named("item", 11, STRINGS)
LONG_ID = 2**53 + 1
VALUE = 1234.0


@dataclass(frozen=True)
class Service:
    url: str
    log: Path
    process: subprocess.Popen[str]


@contextmanager
def served(folder: Path, settings: Mapping[str, object]) -> Iterator[Service]:
    """Run ``gkc serve``; yield it once it is ready."""
    scheme = "https" if "GKC_TLS_CERT_FILE" in settings else "http"
    port = free_port()
    told = {"GKC_STORE_URL": f"file:{folder / 'store'}", "GKC_PORT": port, **settings}
    command = ["env", *(f"{name}={value}" for name, value in told.items()), BIN / "gkc", "serve"]
    log, url = folder / "log", f"{scheme}://127.0.0.1:{port}"
    with logged_service(command, log, url) as process:
        yield Service(url, log, process)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# ---- keys


@dataclass(frozen=True)
class Locked:
    service: Service
    keys: Path
    key: str
    world: World
    table: Path

    def codes(self, key: str) -> set[int]:
        """Ask both workers, which is to say often; return what came."""
        url = f"{self.service.url}/versions"
        return {http_once.get(url, headers=bearer(key)).status_code for _ in range(12)}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """Run two workers that let in one key."""
    folder = tmp_path_factory.mktemp("locked")
    key, keys = new_key(), folder / "keys"
    keys.write_text(line_of("web", key))
    store = f"file:{folder / 'store'}"
    make_world("numbers", origin=Origin(vector_space="run-7")).publish(store)
    world = make_world("strings", 1, value=VALUE, strings=STRINGS).publish(store)
    table = folder / "store/default/generations" / world.generation / "users.gkt"
    with served(folder, {"GKC_API_KEYS_FILE": keys, "GKC_WORKERS": 2}) as service:
        yield Locked(service, keys, key, world, table)


def test_keys_come_and_go_while_it_serves_and_a_broken_file_changes_nothing(
    locked: Locked,
) -> None:
    second = new_key()
    assert locked.codes(locked.key) == {200}
    assert locked.codes(second) == {401}
    locked.keys.write_text(line_of("job", second))
    until(lambda: locked.codes(second) == {200})
    until(lambda: locked.codes(locked.key) == {401})
    locked.keys.write_text(second)  # as someone does who confuses the two
    until(lambda: locked.service.log.read_text().count("files_refused") == 2)
    locked.service.process.send_signal(signal.SIGHUP)  # and no new worker starts with it
    until(lambda: "worker_failed_to_start" in locked.service.log.read_text())
    assert "line 1, is not NAME:SHA256" in locked.service.log.read_text()
    assert locked.codes(second) == {200}
    locked.keys.write_text(line_of("web", locked.key))
    until(lambda: locked.codes(locked.key) == {200})
    assert second not in locked.service.log.read_text()


def test_a_client_shows_its_key(locked: Locked) -> None:
    with Client(locked.service.url, timeout=10, api_key=locked.key) as client:
        told = client.knowledge(u=USER, i=ITEM, v="strings")
    assert told.rows[0, 0] == VALUE
    with (
        Client(locked.service.url, timeout=10) as client,
        pytest.raises(UnauthorizedError, match="send `Authorization: Bearer KEY`"),
    ):
        client.versions()


def test_a_command_shows_the_key_of_its_environment(locked: Locked, tmp_path: Path) -> None:
    asked = ("lock", "--version", "numbers", "--url", locked.service.url, "-o", tmp_path / "lock")
    refused = gkc(*asked)
    assert refused.returncode == 1
    assert "send `Authorization: Bearer KEY`" in refused.stderr
    assert gkc(*asked, env={"GKC_API_KEY": locked.key}).returncode == 0


def test_logs_hold_no_id_no_value_and_no_key(locked: Locked) -> None:
    wrong = new_key()
    body = {"u": USER, "i": [ITEM], "v": "strings"}
    with httpx.Client(base_url=locked.service.url, headers=bearer(locked.key)) as client:

        def code(sent: object, **more: str) -> int:
            return client.post("/knowledge", json=sent, headers=more).status_code

        assert code(body) == 200
        assert code(body, authorization=f"Bearer {wrong}") == 401
        assert code(body | {"u": LONG_ID}) == 422
        assert code(body | {"v": "numbers"}) == 422
        assert code(body | {"v": "numbers", "u": LONG_ID, "i": [LONG_ID]}) == 200
        assert code(body | {"x": USER}) == 422
        assert code([USER, VALUE]) in (400, 422)
        assert client.get(f"/{locked.key}", params={"key": locked.key}).status_code == 404
        locked.table.chmod(0o600)
        with locked.table.open("r+b") as table:  # in its place: it is mapped
            table.seek(PAGE_BYTES)
            table.write(bytes(locked.table.stat().st_size - PAGE_BYTES))
        until(lambda: code(body) == 503)
    for sent in (f"{locked.key} {USER}\r\n\r\n", f"GET /{USER} HTTP/1.1\r\n{locked.key}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", httpx.URL(locked.service.url).port)) as caller:
            caller.sendall(sent.encode())
            caller.recv(1)
    log = locked.service.log.read_text()
    assert "request_failed" in log
    assert '"caller": "web"' in log
    for planted in (locked.key, wrong, "user 7", "item 11", str(LONG_ID), str(VALUE)):
        assert planted not in log, planted


# ---- certificates


@dataclass(frozen=True)
class Caller:
    """Who trusts a service, and may have a certificate."""

    trusted: Path
    certificate: tuple[Path, Path] | None = None

    def code(self, url: str, key: str = "") -> int | None:
        """Return what a path answers, None if there is no connection."""
        context = ssl.create_default_context(cafile=self.trusted)
        if self.certificate:
            context.load_cert_chain(*self.certificate)
        with suppress(httpx.TransportError), httpx.Client(verify=context, timeout=10) as client:
            return client.get(url, headers=bearer(key) if key else {}).status_code
        return None


def test_certificates_of_both_sides_change_while_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = {}
    for name in ("service", "renewed", "alice", "bob"):
        (tmp_path / name).mkdir()
        pairs[name] = make_certificate(tmp_path / name)
    chain, authority = tmp_path / "chain.pem", tmp_path / "authority.pem"

    def install(service: str, caller: str) -> None:
        chain.write_bytes(b"".join(path.read_bytes() for path in pairs[service]))
        authority.write_bytes(pairs[caller][0].read_bytes())

    def caller(trusts: str, name: str | None = None) -> Caller:
        return Caller(pairs[trusts][0], pairs[name] if name else None)

    install("service", "alice")
    make_world().publish(f"file:{tmp_path / 'store'}")
    key, keys = new_key(), tmp_path / "keys"
    keys.write_text(line_of("web", key))
    settings = {
        "GKC_TLS_CERT_FILE": chain,
        "GKC_TLS_CLIENT_CA_FILE": authority,
        "GKC_API_KEYS_FILE": keys,
    }
    with served(tmp_path, settings) as service:
        versions = f"{service.url}/versions"
        assert caller("service").code(f"{service.url}/livez") == 200
        assert caller("service").code(versions, key) == 401
        assert caller("service", "alice").code(versions) == 401
        assert caller("service", "alice").code(versions, key) == 200
        assert caller("service", "bob").code(versions, key) is None
        monkeypatch.setenv("SSL_CERT_FILE", str(pairs["service"][0]))
        with (
            Client(service.url, timeout=10, api_key=key) as client,
            pytest.raises(UnauthorizedError, match="certificate"),
        ):
            client.versions()
        install("renewed", "bob")
        until(lambda: caller("renewed", "bob").code(versions, key) == 200)
        assert caller("renewed", "alice").code(versions, key) is None
        assert caller("service", "bob").code(versions, key) is None
        chain.write_text("no certificate")
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "worker_failed_to_start" in service.log.read_text())
        assert caller("renewed", "bob").code(versions, key) == 200
        assert f"{chain} must hold a certificate" in service.log.read_text()
