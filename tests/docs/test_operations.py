"""docs/operations.md: its rights are enough and not too many, its tables name every metric."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from gkc.http.metrics import STORE_OPERATIONS
from tests.exporter.bundles import build
from tests.metric_names import metric_names
from tests.redis_server import RedisServer

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
RIGHTS = re.findall(r"^ {4}(ACL SETUSER .*)$", PAGE, flags=re.MULTILINE)
OLDEST_REDIS = 7
WRITES = [
    ("gkc-export", "--version a --bundle {bundle} --pin"),
    ("gkc-export", "--version a --bundle {bundle}"),
    ("gkc-export", "--version b --bundle {bundle} --grace-seconds 0"),
    ("gkc", "versions rollback a"),
    ("gkc", "versions unpin a"),
    ("gkc", "versions delete b --yes --grace-seconds 0"),
]
READS = [
    ("gkc", "versions list"),
    ("gkc", "get --version a --user 1 --item 1"),
    ("gkc", "verify --version a"),
    ("gkc", "export-table --version a {bundle}-as-tables"),
    ("gkc-export", "--version a --bundle {bundle} --check"),
]


def test_the_rights_of_both_users_are_enough(own_redis: RedisServer, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    build(bundle)
    with redis.Redis.from_url(own_redis.url) as admin:
        require_read_rights(admin)
        for line in RIGHTS:
            words = line.replace("PASSWORD", "secret").replace("NAMESPACE", "default").split()
            admin.execute_command(*words)
        for user, commands in (("gkc-writer", WRITES), ("gkc-reader", READS)):
            store = own_redis.url.replace("redis://", f"redis://{user}:secret@")
            for program, arguments in commands:
                run(program, *arguments.format(bundle=bundle).split(), "--store", store)
        # Redis 7.2 refuses the client library's name, which nobody needs.
        refused = {entry["object"] for entry in admin.acl_log()}
        assert refused <= {"client|setinfo"}


def test_who_reads_may_not_write(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as admin:
        require_read_rights(admin)
        (reader,) = (line for line in RIGHTS if "gkc-reader" in line)
        words = reader.replace("PASSWORD", "secret").replace("NAMESPACE", "default").split()
        admin.execute_command(*words)
    url = own_redis.url.replace("redis://", "redis://gkc-reader:secret@")
    with (
        redis.Redis.from_url(url) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.set("gkc:default:catalogue", b"")


def test_the_tables_name_every_metric_and_no_other() -> None:
    rows = re.findall(r"^\| `(gkc_\w+)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(rows) == sorted(metric_names())
    assert set(re.findall(r"`(gkc_\w+)", PAGE)) == metric_names()
    assert [name for name in STORE_OPERATIONS if f"`{name}`" not in PAGE] == []


def require_read_rights(admin: redis.Redis) -> None:
    """Skip where a server is older than those that are supported: it has no ``%R~``."""
    version: str = admin.info("server")["redis_version"]
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        pytest.skip(f"redis-server {version} has no ACL rights %R~: needs {OLDEST_REDIS}")


def run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
