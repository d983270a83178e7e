"""Load what a version holds under the keys that the plain service reads, a vector each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import redis
from numpy.typing import NDArray

from bench.bundles import USER_ID_STEP
from bench.processes import Server
from bench.world import VERSION, World
from keep.served import SAFETENSORS, ServedKnowledge, decode_safetensors

USERS_AT_ONCE = 200
ITEMS_AT_ONCE = 10_000
Vectors = NDArray[np.float16]


def load_plain_keys(world: World, service: Server) -> int:
    """Ask the service for everything and write it under flat keys, beside the version itself.

    Parameters
    ----------
    world : World
        Holds the version.
    service : Server
        Serves it.

    Returns
    -------
    int
        Keys written.
    """
    written = 0
    with (
        ServedKnowledge(f"http://127.0.0.1:{service.port}", VERSION) as knowledge,
        redis.Redis.from_url(world.url) as client,
    ):
        for values in (*_items(world, knowledge), *_users(world, knowledge)):
            client.mset(values)
            written += len(values)
    return written


def _items(world: World, knowledge: ServedKnowledge) -> Iterator[dict[str, bytes]]:
    for start in range(0, world.shape.items, ITEMS_AT_ONCE):
        ids = list(range(start, min(start + ITEMS_AT_ONCE, world.shape.items)))
        vectors = _factored(knowledge, {"u": 0, "i": ids, "parts": ["item"]})["item"]
        names = (f"{VERSION}:i:{item}" for item in ids)
        yield dict(zip(names, map(bytes, vectors), strict=True))


def _users(world: World, knowledge: ServedKnowledge) -> Iterator[dict[str, bytes]]:
    pairs = world.shape.pairs
    for start in range(0, world.shape.users, USERS_AT_ONCE):
        numbers = np.arange(start, min(start + USERS_AT_ONCE, world.shape.users))
        ids = (numbers * USER_ID_STEP).tolist()
        asked = {
            "u": np.repeat(ids, pairs).tolist(),
            "i": 0,
            "c": np.tile(np.arange(pairs), len(ids)).tolist(),
            "parts": ["user", "user_category"],
        }
        found = _factored(knowledge, asked)
        values = {
            f"{VERSION}:u:{user}": bytes(row) for user, row in zip(ids, found["user"], strict=True)
        }
        names = (f"{VERSION}:uc:{user}:{c}" for user in ids for c in range(pairs))
        values |= dict(zip(names, map(bytes, found["user_category"]), strict=True))
        yield values


def _factored(knowledge: ServedKnowledge, body: dict[str, object]) -> dict[str, Vectors]:
    asked = {**body, "v": VERSION, "layout": "factored"}
    return decode_safetensors(knowledge.ask(asked, SAFETENSORS))  # type: ignore[return-value]
