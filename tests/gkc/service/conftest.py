"""Worlds that many tests ask about, and the helpers' asserts explained as a test's are."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Shared machines stall: a slow moment says nothing about the code.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("patient")

pytest.register_assert_rewrite("tests.gkc.service.running")

from gkc.kernels import use  # noqa: E402 - after the line above, like what follows
from tests.gkc.service.running import Session, session  # noqa: E402 - registered first
from tests.gkc.service.world import Worlds, make_world  # noqa: E402


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a store that is not there yet."""
    return f"file:{tmp_path / 'store'}"


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """Export a world of each storage type; return them."""
    url = f"file:{tmp_path_factory.mktemp('worlds')}"
    made = [
        make_world("half", 1, "f16"),
        make_world("half-defaults", 2, "f16", defaults=True),
        make_world("full", 3, "f32"),
        make_world("full-defaults", 4, "f32", defaults=True),
        make_world("int8", 5, "int8"),
        make_world("int8-defaults", 6, "int8", defaults=True),
        make_world("wide", 7, "f16", dim=5),
        make_world("large", 8, "f16", value=300.0),
        make_world("larger", 9, "f32", value=1e5),
        make_world("largest", 10, "f32", value=1e30),
    ]
    return Worlds(url, [world.publish(url, max_versions=len(made)) for world in made])


@pytest.fixture(scope="session", params=["plain", "all that is optional"])
def asked(request: pytest.FixtureRequest, worlds: Worlds) -> Iterator[Session]:
    """Run one service on those worlds, once with all that is optional."""
    options = {"max_rows": 50, "max_body_bytes": 20_000}
    if request.param != "plain":
        if find_spec("numba"):
            use(request.getfixturevalue("compiled"))
        options["user_cache_mb"] = 1
    try:
        with session(worlds.url, **options) as opened:
            yield opened
    finally:
        use(None)
