"""The Redis store: `layout` says how a generation lies in it."""

from __future__ import annotations

from pathlib import Path

from gkc.store.backends.redis.reader import RedisReader
from gkc.store.backends.redis.storage import RedisStorage
from gkc.store.urls import StoreUrl

__all__ = ["RedisReader", "RedisStorage", "open_reader", "open_storage"]


def open_reader(
    where: StoreUrl, namespace: str, mirror_dir: Path | None, timeout_ms: int
) -> RedisReader:
    """Open a store for reading; connects at the first read."""
    return RedisReader(where, namespace, mirror_dir=mirror_dir, timeout_ms=timeout_ms)


def open_storage(where: StoreUrl, namespace: str) -> RedisStorage:
    """Open a store for writing."""
    return RedisStorage(where, namespace)
