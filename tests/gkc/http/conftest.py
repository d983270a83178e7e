"""Worlds that many tests ask about, and the helpers' asserts explained as a test's are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.gkc.http.running")

from tests.gkc.http.running import Session, session  # noqa: E402 - after the line above
from tests.gkc.world import Worlds  # noqa: E402


@pytest.fixture(scope="session", params=["users read", "users cached"])
def asked(request: pytest.FixtureRequest, worlds: Worlds) -> Iterator[Session]:
    """Run one service on those worlds, once with all that is optional."""
    options = {"max_rows": 50, "max_body_bytes": 20_000}
    if request.param == "users cached":
        options["user_cache_mb"] = 1
    with session(worlds.url, **options) as opened:
        yield opened
