"""A store that hangs: nobody waits longer than allowed, and nobody because of another."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import redis

from tests.commands import Place, service
from tests.faults.proxy import proxy_to
from tests.gkc.world import make_world
from tests.redis_server import RedisServer

SETTINGS = {
    "GKC_STORE_TIMEOUT_MS": "1000",
    "GKC_REFRESH_MS": "60000",
    "GKC_USER_CACHE_MB": "0",  # each request reads the store
}
HASTY = {"x-request-timeout-ms": "50"}


def test_nobody_waits_longer_than_allowed_nor_fails_for_another(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    make_world("v1").publish(own_redis.url)
    passes = Event()
    passes.set()
    with (
        proxy_to(own_redis.port) as proxy,
        service(
            Place(proxy.url, "default"), env=SETTINGS | {"GKC_MIRROR_DIR": str(tmp_path / "m")}
        ) as url,
        httpx.Client(base_url=url, timeout=30) as client,
        redis.Redis(port=own_redis.port) as server,
        ThreadPoolExecutor() as threads,
    ):

        def ask(headers: dict[str, str] | None = None) -> int:
            body = {"u": 7, "i": [11, 12], "v": "v1"}
            return client.post("/knowledge", json=body, headers=headers).status_code

        def hold(data: bytes) -> bytes:
            passes.wait(30)
            return data

        assert ask({"x-request-timeout-ms": "30000"}) == 200
        before = server.info()["total_connections_received"]
        proxy.change = hold
        passes.clear()
        patient = threads.submit(ask)
        assert ask(HASTY) == 504
        passes.set()
        assert patient.result() == 200, "the other one's haste is no reason to give the link up"
        assert server.info()["total_connections_received"] == before

        own_redis.signal(signal.SIGSTOP)
        try:
            assert ask(HASTY) == 504
            assert ask() == 503
        finally:
            own_redis.signal(signal.SIGCONT)
        until = time.monotonic() + 20
        while ask() != 200:
            assert time.monotonic() < until, "it does not recover"
            time.sleep(0.02)
