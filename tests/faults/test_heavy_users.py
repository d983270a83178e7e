"""Questions that need many bytes of the store hold up none that needs few."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from gkc.store import Publisher, parse_store_url
from gkc.store.backends.redis import RedisStorage
from gkc.testing.samples import make_sample, publish_sample
from tests.commands import Place, service
from tests.faults.proxy import proxy_to
from tests.redis_server import RedisServer


def test_one_row_is_answered_while_the_records_of_many_heavy_users_come(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    sample = make_sample(users=200, items=20, category_dim=2000)
    storage = RedisStorage(parse_store_url(own_redis.url), "default")
    publish_sample(Publisher(storage), sample)
    storage.close()
    users, item = sample.users.ids.tolist(), int(sample.items.ids[0])
    with (
        proxy_to(own_redis.port) as proxy,
        service(Place(proxy.url, "default"), env={"GKC_MIRROR_DIR": str(tmp_path / "m")}) as url,
        httpx.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor() as threads,
    ):

        def ask(u: Any) -> int:
            body = {"u": u, "i": item, "v": sample.spec.version, "parts": ["user"]}
            return client.post("/knowledge", json=body).status_code

        assert ask(users[0]) == 200
        proxy.bytes_per_second = 4e6
        heavy = [threads.submit(ask, users) for _ in range(2)]
        beside = 0
        while not all(future.done() for future in heavy):
            assert ask(users[beside % len(users)]) == 200
            beside += 1
        assert [future.result() for future in heavy] == [200, 200]
        assert beside > 10
