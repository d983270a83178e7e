"""The fixtures and hooks that every other test leans on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[1]

SKIPPING_TEST = """
import pytest

@pytest.mark.skip(reason="no such thing here")
def test_skipped() -> None:
    raise AssertionError

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_to_fail() -> None:
    raise AssertionError
"""
SKIPPING_MODULE = "import pytest\npytest.importorskip('no_such_module_at_all')\n"


def _run_pytest(folder: Path, require: str | None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GKC_")}
    environment["PYTHONPATH"] = str(ROOT)
    if require is not None:
        environment["GKC_TEST_REQUIRE"] = require
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--rootdir", str(folder), "-c", os.devnull, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
    )


def test_a_skip_fails_where_everything_is_required(tmp_path: Path) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING_TEST)
    done = _run_pytest(tmp_path, "all")
    assert done.returncode == 1, done.stdout
    assert "1 xfailed, 1 error" in done.stdout
    assert "no such thing here" in done.stdout


def test_a_skipped_module_fails_where_everything_is_required(tmp_path: Path) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING_MODULE)
    done = _run_pytest(tmp_path, "all")
    assert done.returncode == 2, done.stdout
    assert "no_such_module_at_all" in done.stdout


def test_a_skip_passes_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING_TEST)
    done = _run_pytest(tmp_path, None)
    assert done.returncode == 0, done.stdout
    assert "1 skipped, 1 xfailed" in done.stdout


def test_another_requirement_is_wrong_usage(tmp_path: Path) -> None:
    done = _run_pytest(tmp_path, "most")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "GKC_TEST_REQUIRE" in done.stderr


def test_no_setting_of_the_caller_reaches_a_test() -> None:
    assert [name for name in os.environ if name.startswith("GKC_")] == []


@pytest.mark.redis
def test_an_own_redis_can_be_stopped_and_started_again(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.set("key", "value") is True
        first_pid = own_redis.pid
        own_redis.stop()
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        own_redis.start()
        assert own_redis.pid != first_pid
        assert client.get("key") is None


@pytest.mark.redis
def test_a_namespace_is_new(redis_server_url: str, redis_namespace: str) -> None:
    with redis.Redis.from_url(redis_server_url) as client:
        client.set(f"gkc:{redis_namespace}:catalogue", "value")
        keys = list(client.scan_iter(match=f"gkc:{redis_namespace}:*"))
    assert len(keys) == 1
