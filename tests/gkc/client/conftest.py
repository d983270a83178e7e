"""Real services that many tests ask, and both kinds of clients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.commands import Place, service
from tests.gkc.client.clients import KINDS, Open, opened
from tests.gkc.world import Worlds


@pytest.fixture(scope="session")
def served(worlds: Worlds) -> Iterator[str]:
    """Yield the URL of a real service on those worlds, which answers 50 rows at once."""
    with service(Place(worlds.url, "default"), env={"GKC_MAX_ROWS": "50"}) as url:
        yield url


@pytest.fixture(params=KINDS)
def client_of(request: pytest.FixtureRequest) -> Open:
    """Return what opens a client, blocking or async."""
    return partial(opened, request.param)
