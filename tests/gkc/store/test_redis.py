"""The Redis store keeps the contract; below it, what only a server of keys can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from gkc.store import KnowledgeReader, parse_store_url
from gkc.store.backends.redis import RedisReader
from gkc.store.backends.redis_format import GenerationKeys, bucket_numbers, id_fields
from gkc.store.backends.redis_storage import RedisStorage
from gkc.store.protocol import Storage, hash_ids
from tests.gkc.store.contract import StoreContract


class RedisPlace:
    """A namespace on a real Redis, and its keys seen from outside."""

    def __init__(self, url: str, namespace: str, mirror_dir: Path) -> None:
        self.url = url
        self.namespace = namespace
        self.mirror_dir = mirror_dir
        self.client: Any = redis.Redis.from_url(url)

    def open_pair(self, namespace: str | None = None) -> tuple[Storage, KnowledgeReader]:
        name, where = namespace or self.namespace, parse_store_url(self.url)
        return RedisStorage(where, name), RedisReader(where, name, mirror_dir=self.mirror_dir)

    def data_of(self, generation: str) -> Mapping[str, bytes]:
        keys = list(self.client.scan_iter(match=f"*{generation}*", count=1000))
        return {key.decode(): self.client.dump(key) for key in keys}

    def put_back(self, data: Mapping[str, bytes]) -> None:
        for key, raw in data.items():
            self.client.restore(key, 0, raw, replace=True)

    def bucket_of(self, generation: str, user: int) -> str:
        """Return the key of a user's bucket, from what is stored alone."""
        prefix = GenerationKeys(self.namespace, generation).bucket(0)[:-1]
        count = sum(key.startswith(prefix) for key in self.data_of(generation))
        hashes = hash_ids(np.array([user], dtype=np.int64))
        return f"{prefix}{bucket_numbers(hashes, count)[0]}"

    def block_of(self, generation: str, item: int) -> str:
        """Return the key of the block that holds an item's id."""
        (field,) = id_fields(np.array([item], dtype=np.int64))
        prefix = GenerationKeys(self.namespace, generation).directory + ":"
        keys = [key for key in self.data_of(generation) if key.startswith(prefix)]
        return next(key for key in keys if field in self.client.get(key))

    def lose_user(self, generation: str, user: int) -> None:
        assert self.client.delete(self.bucket_of(generation, user))

    def lose_item(self, generation: str, item: int) -> None:
        assert self.client.delete(self.block_of(generation, item))

    def lose_manifest(self, generation: str) -> None:
        assert self.client.delete(GenerationKeys(self.namespace, generation).manifest)

    def flip_user_byte(self, generation: str, user: int) -> None:
        key = self.bucket_of(generation, user)
        (field,) = id_fields(np.array([user], dtype=np.int64))
        record = bytearray(self.client.hget(key, field))
        record[5] ^= 0x10
        self.client.hset(key, field, bytes(record))

    def flip_item_byte(self, generation: str, item: int) -> None:
        key = self.block_of(generation, item)
        raw = bytearray(self.client.get(key))
        raw[-5] ^= 0x10
        self.client.set(key, bytes(raw))

    def set_catalogue(self, raw: bytes | None) -> None:
        key = f"gkc:{self.namespace}:catalogue"
        if raw is None:
            self.client.delete(key)
        else:
            self.client.set(key, raw)


@pytest.fixture
def place(redis_server_url: str, redis_namespace: str, tmp_path: Path) -> RedisPlace:
    return RedisPlace(redis_server_url, redis_namespace, tmp_path / "mirrors")


class TestRedisStore(StoreContract):
    """The contract, on a Redis server."""

    @pytest.fixture
    def place(self, redis_server_url: str, redis_namespace: str, tmp_path: Path) -> RedisPlace:
        return RedisPlace(redis_server_url, redis_namespace, tmp_path / "mirrors")
