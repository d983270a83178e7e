"""Whatever is lost, damaged or mixed up on its way: what is answered 200 is right."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from tests.commands import Place, service
from tests.faults.proxy import proxy_to
from tests.gkc.world import ITEMS, USERS, World, make_world
from tests.redis_server import RedisServer


def ask(client: httpx.Client, world: World, user: int) -> int:
    """Ask for the rows of one user; return the status, having looked at what is answered 200."""
    body = {"u": user, "i": list(ITEMS), "v": world.version}
    response = client.post("/knowledge", json=body)
    if response.status_code == 200:
        told = response.json()
        rows = [world.row(user, item, None) for item in ITEMS]
        knowledge = np.array(told["knowledge"], dtype=np.float32)
        assert knowledge.tobytes() == np.array([row for row, _ in rows], np.float32).tobytes()
        assert told["status"] == [status for _, status in rows]
    else:
        assert response.status_code == 503
        assert response.headers["retry-after"]
    return response.status_code


def ask_all(client: httpx.Client, world: World, times: int = 1) -> Counter[int]:
    """Ask for all users at the same time, again and again; return how often which status came."""
    with ThreadPoolExecutor(len(USERS)) as threads:
        asked = [threads.submit(ask, client, world, user) for user in USERS * times]
        return Counter(future.result() for future in asked)


def twice(data: bytes) -> bytes:
    return data + data


def without_the_first_answer(data: bytes) -> bytes:
    _, star, rest = data[1:].partition(b"*")
    return star + rest


def half_an_answer_more(data: bytes) -> bytes:
    return b"$-1\r\n" + data


def test_answers_of_redis_that_are_out_of_their_places_are_nobody_s(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    world = make_world().publish(own_redis.url)
    env = {"GKC_MIRROR_DIR": str(tmp_path / "mirror")}
    with (
        proxy_to(own_redis.port) as proxy,
        service(Place(proxy.url, "default"), env=env) as url,
        httpx.Client(base_url=url, timeout=10) as client,
    ):
        for change in (twice, without_the_first_answer, half_an_answer_more):
            proxy.change = change
            found = ask_all(client, world, 5)
            assert found[503] or change is twice, change  # which may come after a good answer
            proxy.change = bytes
            ask(client, world, USERS[0])  # it may meet the end of the old connection
            assert ask_all(client, world) == {200: len(USERS)}, change
