"""Every foreseeable fault of a Redis server is one line: the situation, and what to do."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import redis

from gkc.errors import StoreUnavailableError
from gkc.store import parse_store_url
from gkc.store.backends.redis import RedisReader
from gkc.store.backends.redis.faults import unavailable
from gkc.store.backends.redis.layout import catalogue_key
from gkc.store.backends.redis.storage import RedisStorage
from gkc.store.catalogue import Catalogue
from tests.redis_server import START_TIMEOUT_SECONDS, RedisServer, free_port, tls_server


def told_when_read(url: str, timeout_ms: int = 5000) -> str:
    """Return what a reader says about a store that fails."""

    async def read() -> str:
        reader = RedisReader(parse_store_url(url), "center", timeout_ms=timeout_ms)
        try:
            with pytest.raises(StoreUnavailableError) as caught:
                await reader.catalogue()
        finally:
            await reader.close()
        return str(caught.value)

    return asyncio.run(read())


def told_when_written(url: str) -> str:
    """Return what a writer says about a store that fails."""
    with (
        closing(RedisStorage(parse_store_url(url), "center")) as storage,
        pytest.raises(StoreUnavailableError) as caught,
    ):
        storage.swap_catalogue(None, Catalogue().to_bytes())
    return str(caught.value)


def assert_told(url: str, *words: str) -> None:
    """Check that reader and writer both say these words, in one line."""
    for told in (told_when_read(url), told_when_written(url)):
        assert told.startswith(f"store {parse_store_url(url).shown} is not available: ")
        assert "\n" not in told
        for word in words:
            assert word in told


@contextmanager
def another_server(greeting: bytes = b"", answer: bytes = b"") -> Iterator[str]:
    """Run a server that is no Redis: it greets, reads once, answers and hangs up."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # the listener was shut down
                return
            with client:
                client.sendall(greeting)
                client.recv(65536)
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


# ---- no server, or none of ours


def test_nobody_listens() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    assert_told(url, "Connection refused; start it, or mend the host and port")


def test_a_host_that_is_none() -> None:
    assert_told("redis://nowhere.invalid/0", "its host is not found", "check the host in the URL")


def test_a_socket_that_is_none(tmp_path: Path) -> None:
    assert_told(f"unix://{tmp_path}/s", "No such file or directory; check that it runs")


def test_a_path_too_long_for_a_socket() -> None:
    assert_told(f"unix:///{'x' * 200}", "cannot connect: AF_UNIX path too long")


def test_a_web_server() -> None:
    with another_server(answer=b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert_told(f"redis://{address}", "it is no Redis server", "check the host and port")


def test_a_server_that_speaks_first() -> None:
    with another_server(greeting=b"SSH-2.0-Server\r\n") as address:
        assert_told(f"redis://{address}", "it is no Redis server")


def test_a_server_that_hangs_up() -> None:
    with another_server() as address:
        assert_told(f"redis://{address}", "Connection closed by server", "use rediss://")


def test_a_server_without_tls_that_answers_it() -> None:
    with another_server(answer=b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert_told(f"rediss://{address}", "this port does not speak it; use redis://")


def test_a_server_that_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        told = told_when_read(f"redis://{address}", timeout_ms=50)
        assert "no answer within 50 ms); check the host and port" in told
        told = told_when_read(f"rediss://{address}", timeout_ms=50)
        assert "does this port speak TLS?" in told


def test_a_writer_waits_for_the_first_answer_no_longer_than_to_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gkc.store.backends.redis.client.CONNECT_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        told = told_when_written(f"redis://{address}")
        assert "it did not answer in time" in told
        told = told_when_written(f"rediss://{address}")
        assert "does this port speak TLS?" in told


def test_a_sentinel(own_redis: RedisServer) -> None:
    configuration = own_redis.folder / "sentinel.conf"
    configuration.write_text(f"port {free_port()}\ndir {own_redis.folder}\n")
    server = RedisServer(own_redis.binary, own_redis.folder)
    command = [str(own_redis.binary), str(configuration), "--sentinel", "--port", str(server.port)]
    sentinel = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(server.port)
        assert_told(server.url, "unknown command", "not a Sentinel")
    finally:
        sentinel.terminate()
        sentinel.wait()


# ---- what a Redis server refuses


@pytest.fixture
def server(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url) as client:
        yield client


@pytest.fixture
def url(own_redis: RedisServer) -> str:
    return own_redis.url


def test_a_password_that_is_missing_wrong_or_too_much(server: redis.Redis, url: str) -> None:
    with_password = url.replace("//", "//:SECRET@")
    assert_told(with_password, "it has no password set", "take it out of the URL")
    server.config_set("requirepass", "another")
    assert_told(url, "it asks for a password; give one in the URL, percent-encoded")
    assert_told(with_password, "it refuses the user name or the password", "percent-encoded")
    assert "SECRET" not in told_when_read(with_password) + told_when_written(with_password)


def test_a_user_who_may_not(server: redis.Redis, url: str) -> None:
    server.acl_setuser(
        "limited", enabled=True, passwords=["+p"], keys=["*"], commands=["+ping", "+client"]
    )
    assert_told(url.replace("//", "//limited:p@"), "its user may not do this", "ACL SETUSER")
    server.acl_setuser(
        "elsewhere", enabled=True, passwords=["+p"], keys=["other:*"], categories=["+@all"]
    )
    assert_told(url.replace("//", "//elsewhere:p@"), "its user may not do this", "keys")


def test_a_database_that_there_is_not(url: str) -> None:
    assert_told(url.removesuffix("0") + "99", "no database of the number", "use a lower one")


def test_too_many_connections(server: redis.Redis, url: str) -> None:
    server.config_set("maxclients", 1)
    assert_told(url, "as many connections as it allows", "maxclients")


def test_no_memory(server: redis.Redis, url: str) -> None:
    server.config_set("maxmemory", 1)
    with pytest.raises(redis.OutOfMemoryError) as full:
        server.set("key", "value")
    assert "out of memory (OOM); raise its maxmemory" in str(unavailable(full.value, url))


def test_too_few_replicas(server: redis.Redis, url: str) -> None:
    server.config_set("min-replicas-to-write", 1)
    assert "too few replicas" in told_when_written(url)


def test_a_replica(server: redis.Redis, url: str) -> None:
    server.replicaof("127.0.0.1", free_port())
    assert "a read-only replica; name the primary" in told_when_written(url)
    server.config_set("replica-serve-stale-data", "no")
    assert "a replica without its primary" in told_when_read(url)


def test_a_disk_that_cannot_be_written(
    server: redis.Redis, url: str, own_redis: RedisServer
) -> None:
    # No file can be renamed over a folder that holds something, whoever runs the server.
    (own_redis.folder / "dump.rdb" / "in the way").mkdir(parents=True)
    server.set("k", "v")
    server.config_set("save", "3600 1")
    server.bgsave()
    _until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err")
    told = told_when_written(url)
    server.config_set("save", "")  # else it does not end before it has saved
    assert "refuses writes (MISCONF)" in told


def test_a_script_that_does_not_end(server: redis.Redis, own_redis: RedisServer) -> None:
    server.config_set("lua-time-limit", 1)
    stuck = threading.Thread(target=_run_until_killed, args=[own_redis.url])
    stuck.start()
    try:
        _until(lambda: "BUSY" in _answer_to_ping(server))
        assert_told(own_redis.url, "busy with somebody's script", "SCRIPT KILL")
    finally:
        server.script_kill()
        stuck.join()


def test_a_server_that_starts() -> None:
    with another_server(answer=b"-LOADING Redis is loading the dataset in memory\r\n") as address:
        assert_told(f"redis://{address}", "still loading its data from disk; try again shortly")


def test_protected_mode() -> None:
    refusal = b"-DENIED Redis is running in protected mode because protected mode is enabled and "
    refusal += b"no password is set for the default user.\r\n"
    with another_server(greeting=refusal) as address:
        words = "in protected mode and accepts only its own machine; set a password there"
        assert_told(f"redis://{address}", words)
        assert_told(f"redis://u:p@{address}", words)


# ---- Redis Cluster


def test_a_cluster_without_slots_and_its_databases(own_redis: RedisServer) -> None:
    with _nodes(own_redis, 1) as (node,):
        assert_told(node.url, "a node of a Redis Cluster that is down (Hash slot not served)")
        assert_told(node.url[:-1] + "1", "in cluster mode, which has database 0 only")


def test_a_cluster_of_several_nodes(own_redis: RedisServer) -> None:
    with _nodes(own_redis, 2) as nodes, ExitStack() as clients:
        one, two = (clients.enter_context(redis.Redis.from_url(node.url)) for node in nodes)
        for client, first, last in ((one, 0, 8191), (two, 8192, 16383)):
            slots = [str(slot) for slot in range(first, last + 1)]
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
        peer = ["127.0.0.1", str(nodes[1].port), nodes[1].arguments[-1]]
        one.execute_command("CLUSTER", "MEET", *peer)
        for client in (one, two):
            _until(partial(_is_whole, client))
        told = [told_when_read(node.url) for node in nodes if _is_elsewhere(node)]
        told += [told_when_written(node.url) for node in nodes if _is_elsewhere(node)]
        assert len(told) == 2  # the catalogue lies on one of them; the other refers to it
        for line in told:
            assert "a node of a Redis Cluster of several nodes" in line
            assert "127.0.0.1:" not in line.partition("not available")[2]
        for node in nodes:
            with (
                closing(RedisStorage(parse_store_url(node.url), "center")) as storage,
                pytest.raises(StoreUnavailableError, match="a Redis Cluster of several nodes"),
            ):
                storage.check_safe()


def test_a_cluster_of_one_node_is_no_fault(own_redis: RedisServer) -> None:
    with _nodes(own_redis, 1) as (node,), redis.Redis.from_url(node.url) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        _until(partial(_is_whole, client))
        with closing(RedisStorage(parse_store_url(node.url), "center")) as storage:
            storage.check_safe()
            assert storage.read_catalogue() is None


# ---- TLS


def test_tls(own_redis: RedisServer, tmp_path: Path) -> None:
    with tls_server(own_redis, tmp_path) as (port, certificate, key):
        address = f"127.0.0.1:{port}/0"
        assert_told(f"rediss://{address}", "TLS failed (self", "ssl_ca_certs")
        assert_told(f"rediss://{address}?ssl_ca_certs={key}", "TLS failed (NO_CERT", "a PEM file")
        assert_told(f"rediss://{address}?ssl_certfile={key}", "TLS failed", "a PEM file")
        assert_told(f"redis://{address}", "if the port speaks TLS, use rediss://")
        named = f"rediss://127.0.0.2:{port}/0?ssl_ca_certs={certificate}"
        told = str(unavailable(_mismatch(), named))
        assert "the host as its certificate does" in told


# ---- what no server here can be made to do


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (redis.AuthenticationError("invalid password", status_code="ERR"), "refuses the password"),
        (
            redis.AuthenticationError("Client sent AUTH, but no password is set"),
            "it has no password set",
        ),
        (OSError(errno.EHOSTUNREACH, "x"), "No route to host; start it"),
        (BrokenPipeError(errno.EPIPE, "x"), "the connection was cut (Broken pipe)"),
        (redis.ResponseError("ERR what\nis this?"), "ERR what is this?; see the server's log"),
        (redis.RedisError(), "RedisError; see the server's log"),
        (
            redis.ResponseError(
                "Error running script (call to f_1b2c): @user_script:4: @user_script: 4: -OOM "
                "command not allowed when used memory > 'maxmemory'."
            ),
            "out of memory (OOM); raise its maxmemory or delete versions",
        ),
        (
            redis.ResponseError(
                "Error running script (call to f_1b2c): @user_script:4: @user_script: 4: -READONLY "
                "You can't write against a read only replica."
            ),
            "it is a read-only replica; name the primary",
        ),
    ],
)
def test_in_words(exc: Exception, words: str) -> None:
    assert words in str(unavailable(exc, "redis://h"))


def _mismatch() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "IP address mismatch, certificate is not valid for '127.0.0.2'."
    return error


@contextmanager
def _nodes(own_redis: RedisServer, count: int) -> Iterator[list[RedisServer]]:
    """Run nodes of a cluster; the last argument of each is its port for the others."""
    with ExitStack() as stack:
        nodes = []
        for k in range(count):
            folder = own_redis.folder / f"node{k}"
            folder.mkdir()
            bus = ("--cluster-port", str(free_port()))
            node = RedisServer(own_redis.binary, folder, "--cluster-enabled", "yes", *bus)
            try:
                node.start()
            except AssertionError:
                pytest.skip("this redis-server does not know --cluster-port")
            stack.callback(node.stop)
            nodes.append(node)
        yield nodes


def _is_whole(client: redis.Redis) -> bool:
    info: dict[str, str] = client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
    return info["cluster_state"] == "ok"


def _is_elsewhere(node: RedisServer) -> bool:
    with redis.Redis.from_url(node.url) as client:
        try:
            client.get(catalogue_key("center"))
        except redis.ResponseError:
            return True
        return False


def _answer_to_ping(client: redis.Redis) -> str:
    try:
        return str(client.ping())
    except redis.ResponseError as exc:
        return str(exc)


def _run_until_killed(url: str) -> None:
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)


def _wait_for(port: int) -> None:
    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    _until(answers)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
