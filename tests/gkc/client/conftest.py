"""Real services that many tests ask, and both kinds of clients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.commands import Place, service
from tests.gkc.client.clients import KINDS, Open, opened
from tests.gkc.world import Worlds
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def served(worlds: Worlds) -> Iterator[str]:
    """Yield the URL of a real service on those worlds, which answers 50 rows at once."""
    with service(Place(worlds.url, "default"), env={"GKC_MAX_ROWS": "50"}) as url:
        yield url


@pytest.fixture(params=KINDS)
def client_of(request: pytest.FixtureRequest) -> Open:
    """Return what opens a client, blocking or async."""
    return partial(opened, request.param)


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """Undo what a store in this process sets up, where nobody had."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def redis_store(own_redis: RedisServer, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """Return the URL of a Redis of this test alone, and the options of a store in it."""
    return own_redis.url, {"mirror_dir": tmp_path / "mirrors"}
