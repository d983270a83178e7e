"""The store goes away and comes back: what is held answers meanwhile, and nobody waits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from gkc import Client
from gkc.errors import StoreError
from tests.commands import Place, service
from tests.faults.asking import ask, wait_until
from tests.faults.proxy import proxy_to
from tests.gkc.world import ITEMS, USERS, World, make_world
from tests.redis_server import RedisServer

HELD, OTHER = USERS[:2]


@contextmanager
def served(store: str, world: World, tmp_path: Path) -> Iterator[httpx.Client]:
    """Run a service that holds one user, and yield a client of it."""
    env = {"GKC_MIRROR_DIR": str(tmp_path / "mirror")}
    with (
        service(Place(store, "default"), env=env) as url,
        httpx.Client(base_url=url, timeout=10) as client,
    ):
        ask(client, world, HELD)
        yield client


@contextmanager
def stopped(own_redis: RedisServer) -> Iterator[None]:
    own_redis.signal(signal.SIGSTOP)
    yield
    own_redis.signal(signal.SIGCONT)


@contextmanager
def killed(own_redis: RedisServer) -> Iterator[None]:
    with redis.Redis.from_url(own_redis.url) as client:
        client.save()  # what it has again when it starts
    os.kill(own_redis.pid, signal.SIGKILL)
    own_redis.stop()
    yield
    own_redis.start()


def holds_one(response: httpx.Response) -> bool:
    return response.status_code == 200 and "age" in response.json()


def test_what_is_held_outlives_redis_with_its_age(own_redis: RedisServer, tmp_path: Path) -> None:
    world = make_world("v1", 1).publish(own_redis.url)
    question: dict[str, Any] = {"u": HELD, "i": ITEMS[0], "v": "v1"}
    not_held = "1 of 1 users are not held here, and the store is away"
    with served(own_redis.url, world, tmp_path) as client:
        url = str(client.base_url)
        for outage in (stopped, killed):
            with outage(own_redis):
                assert "age" not in ask(client, world, HELD).json(), "two seconds as ever"
                wait_until(lambda: not_held in ask(client, world, OTHER).text)
                wait_until(lambda: holds_one(ask(client, world, HELD, allow_stale=60)))
                assert "allow_stale of 0 s" in ask(client, world, HELD).json()["detail"]
                with Client(url, allow_stale=60, timeout=10) as allowing:
                    assert allowing.knowledge(**question).age
                with (
                    Client(url, timeout=10, retries=0) as strict,
                    pytest.raises(StoreError, match="of 0 s"),
                ):
                    strict.knowledge(**question)
            wait_until(lambda: ask(client, world, HELD).status_code == 200)
            assert "age" not in ask(client, world, HELD, allow_stale=60).json()
        assert ask(client, world, OTHER).status_code == 200


def test_what_is_published_while_a_host_is_cut_off_answers_afterwards(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    old = make_world("v1", 1).publish(own_redis.url)
    with proxy_to(own_redis.port) as proxy, served(proxy.url, old, tmp_path) as client:
        proxy.change = lambda _: b""
        wait_until(lambda: "the store is away" in ask(client, old, OTHER).text)
        new = make_world("v1", 2).publish(own_redis.url)
        assert ask(client, old, HELD, allow_stale=60).status_code == 200
        proxy.change = bytes
        question = {"u": HELD, "i": ITEMS[0], "v": "v1"}
        wait_until(lambda: new.generation in client.post("/knowledge", json=question).text)
        assert ask(client, new, HELD).status_code == 200
