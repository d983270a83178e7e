"""The stores that acceptance tests run on: a folder, and a namespace of a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.commands import Place

STORES = ("file", "redis")


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Yield an empty store of each kind; what a Redis namespace holds is deleted afterwards."""
    with empty_place(request, tmp_path) as made:
        yield made


@contextmanager
def empty_place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """Make an empty store of the kind that a fixture's parameter names."""
    namespace = f"test-{uuid.uuid4().hex}"
    if request.param == "file":
        yield Place(f"file:{folder / 'store'}", namespace)
        return
    url = request.getfixturevalue("redis_server_url")
    yield Place(url, namespace)
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"*{namespace}*", count=1000):
            client.unlink(key)
