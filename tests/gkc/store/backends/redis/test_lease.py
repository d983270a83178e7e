"""Writer leases on Redis: living, dead, stopped and forgotten holders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.connection import ConnectionPool

from gkc.errors import LeaseLostError, VersionBusyError
from gkc.store import parse_store_url
from gkc.store.backends.redis.client import connection_pool
from gkc.store.backends.redis.lease import RedisLease, process_identity
from tests.redis_server import RedisServer

GENERATION = "0000000001-test"
TTL = 0.6


@pytest.fixture
def pool(redis_server_url: str) -> Iterator[ConnectionPool]:
    pool = connection_pool(parse_store_url(redis_server_url), 5.0)
    yield pool
    pool.disconnect()


@pytest.fixture
def client(pool: ConnectionPool) -> Any:
    return redis.Redis(connection_pool=pool)


@pytest.fixture
def key(redis_namespace: str) -> str:
    return f"gkc:{redis_namespace}:lease:v1"


def take(pool: ConnectionPool, key: str, holder: str = "me") -> RedisLease:
    return RedisLease(pool, key, "v1", holder, TTL)


def value_of(process: dict[str, Any] | None) -> str:
    return json.dumps({"token": "t", "holder": "the other", "process": process})


def a_dead_process() -> dict[str, Any]:
    """Return the identity of a process that has ended since."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(process.pid)
    process.communicate()
    assert identity is not None
    return identity


def test_a_lease_is_renewed_for_as_long_as_it_is_held(pool: ConnectionPool, key: str) -> None:
    lease = take(pool, key)
    deadline = time.monotonic() + 3 * TTL
    while time.monotonic() < deadline:
        lease.check(GENERATION)
        with pytest.raises(VersionBusyError, match="me"):
            take(pool, key)
        time.sleep(0.05)
    lease.release()
    lease.release()
    with pytest.raises(LeaseLostError):
        lease.check(GENERATION)
    take(pool, key).release()


def test_release_leaves_nothing(pool: ConnectionPool, client: Any, key: str) -> None:
    take(pool, key).release()
    assert client.get(key) is None


def test_a_lease_that_was_taken_over_is_lost_and_not_released(
    pool: ConnectionPool, client: Any, key: str
) -> None:
    lease = take(pool, key)
    client.set(key, value_of(None))
    _wait_until_lost(lease)
    lease.release()
    assert client.get(key) == value_of(None).encode()


def test_a_lease_that_vanished_is_lost_though_it_is_free(
    pool: ConnectionPool, client: Any, key: str
) -> None:
    lease = take(pool, key)
    client.delete(key)
    _wait_until_lost(lease)
    lease.release()
    assert client.get(key) is None


def test_a_lease_is_lost_when_the_server_is_away_for_its_lifetime(own_redis: RedisServer) -> None:
    pool = connection_pool(parse_store_url(own_redis.url), 0.2)
    lease = RedisLease(pool, "lease", "v1", "me", TTL)
    own_redis.stop()
    lease.check(GENERATION)  # it may come back in time
    time.sleep(TTL + 0.05)
    with pytest.raises(LeaseLostError):
        lease.check(GENERATION)
    own_redis.start()
    time.sleep(TTL / 2)
    with pytest.raises(LeaseLostError):  # for good
        lease.check(GENERATION)
    lease.release()
    pool.disconnect()


def test_a_writer_that_was_paused_finds_its_lease_lost(
    pool: ConnectionPool, client: Any, redis_server_url: str, key: str
) -> None:
    script = f"""
import os, signal
from gkc.errors import LeaseLostError
from gkc.store import parse_store_url
from gkc.store.backends.redis.client import connection_pool
from gkc.store.backends.redis.lease import RedisLease
lease = RedisLease(connection_pool(parse_store_url({redis_server_url!r}), 5), {key!r}, "v1", "it",
                   {TTL})
os.kill(os.getpid(), signal.SIGSTOP)
try:
    lease.check("g")
except LeaseLostError:
    print("lost")
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        # It is not dead: it may wake up. So its lease has to run out.
        with pytest.raises(VersionBusyError, match="it"):
            take(pool, key)
        deadline = time.monotonic() + 10
        while client.get(key) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        take(pool, key).release()
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=30)
        assert output == "lost\n"
    finally:
        process.kill()
        process.wait()


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once(
    pool: ConnectionPool, client: Any, key: str
) -> None:
    client.set(key, value_of(a_dead_process()))
    take(pool, key).release()


def test_the_lease_of_a_process_that_nobody_has_waited_for_is_taken(
    pool: ConnectionPool, client: Any, key: str
) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    client.set(key, value_of(process_identity(process.pid)))
    with pytest.raises(VersionBusyError, match="the other"):
        take(pool, key)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in /proc
    take(pool, key).release()
    process.communicate()


@pytest.mark.parametrize("what", ["host", "boot", "namespace"])
def test_a_process_that_cannot_be_seen_from_here_may_live(
    pool: ConnectionPool, client: Any, key: str, what: str
) -> None:
    client.set(key, value_of(a_dead_process() | {what: "another"}))
    with pytest.raises(VersionBusyError, match="the other"):
        take(pool, key)


@pytest.mark.parametrize("value", ["", "{}", "[]", "nonsense", '{"holder": 1}'])
def test_a_lease_that_cannot_be_read_is_respected(
    pool: ConnectionPool, client: Any, key: str, value: str
) -> None:
    client.set(key, value or " ")
    with pytest.raises(VersionBusyError, match="unknown writer"):
        take(pool, key)


def test_a_number_that_was_given_to_another_process_is_told_apart(
    pool: ConnectionPool, client: Any, key: str
) -> None:
    ours = process_identity(os.getpid())
    assert ours is not None
    client.set(key, value_of(ours))
    with pytest.raises(VersionBusyError):
        take(pool, key)
    client.set(key, value_of(ours | {"started": "1"}))
    take(pool, key).release()


def test_a_process_that_is_not_there_has_no_identity() -> None:
    assert process_identity(2**22 + 1) is None


def _wait_until_lost(lease: RedisLease) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            lease.check(GENERATION)
        except LeaseLostError:
            return
        time.sleep(0.02)
    pytest.fail("the lease is still held")
