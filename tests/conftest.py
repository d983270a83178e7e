"""Fixtures for every test: a real Redis, a clean environment, and no skips where none may be."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings

# Whatever imports a helper first, its asserts keep their messages.
pytest.register_assert_rewrite(
    *(f"tests.{name}" for name in ("acceptance", "commands", "exporter", "fakes", "gkc", "keep")),
    "tests.in_process",
    "tests.redis_server",
    "gkc.testing.contract",
    "gkc.testing.samples",
)

from tests.redis_server import RedisServer, find_redis_server  # noqa: E402 - registered first

# Shared machines stall: a slow moment says nothing about the code.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("patient")

NO_REDIS = "no Redis: install redis-server, or name a server in GKC_TEST_REDIS_URL"

_REDIS_URL = pytest.StashKey[str | None]()
_SKIP_FAILS = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Read the two settings of the test run.

    ``GKC_TEST_REDIS_URL`` names a Redis to use instead of an own one; ``GKC_TEST_REQUIRE=all``
    makes every skip a failure, for the run that is to show that everything was tested.
    """
    # A shell starts background jobs with SIGINT ignored, which our child processes would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    require = os.environ.get("GKC_TEST_REQUIRE", "")
    if require not in ("", "all"):
        raise pytest.UsageError(f"GKC_TEST_REQUIRE is 'all' or not set, not {require!r}")
    config.stash[_SKIP_FAILS] = require == "all"
    config.stash[_REDIS_URL] = os.environ.get("GKC_TEST_REDIS_URL")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run with one worker more than processors, for some wait for leases and graces."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test under ``GKC_TEST_REQUIRE=all``; an expected failure is no skip."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.stash[_SKIP_FAILS]:
        report.outcome = "failed"
        report.longrepr = f"skipped under GKC_TEST_REQUIRE=all: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a skipped module under ``GKC_TEST_REQUIRE=all``."""
    report = yield
    if report.outcome == "skipped" and collector.config.stash[_SKIP_FAILS]:
        report.outcome = "failed"
        report.longrepr = f"skipped under GKC_TEST_REQUIRE=all: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Hide the caller's GKC_ settings from the tests and from the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith("GKC_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def redis_server_url(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Yield the URL of a Redis that all tests share, each in its own namespace."""
    given = pytestconfig.stash[_REDIS_URL]
    if given:
        yield given
        return
    server = _new_server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Yield a running Redis of this test alone, to be stopped, restarted or filled at will."""
    folder = tmp_path / "own-redis"
    folder.mkdir()
    server = _new_server(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_namespace(redis_server_url: str) -> Iterator[str]:
    """Yield a namespace that no other test uses; its keys on the shared Redis are deleted after."""
    namespace = f"test-{uuid.uuid4().hex}"
    yield namespace
    with redis.Redis.from_url(redis_server_url) as client:
        for key in client.scan_iter(match=f"*{namespace}*", count=1000):
            client.unlink(key)


def _new_server(folder: Path) -> RedisServer:
    binary = find_redis_server()
    if binary is None:
        pytest.skip(NO_REDIS)
    return RedisServer(binary, folder)
