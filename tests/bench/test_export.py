"""The floors of an export: the exporter's own batches, and the very keys that it left."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from bench.export import PAIRS, _export, _pipe, _write_commands, read_inputs
from bench.student_bundle import write_student_bundle
from tests.redis_server import RedisServer

USERS, ITEMS = 30, 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "students"
    write_student_bundle(folder, USERS, ITEMS, PAIRS)
    return folder


def test_the_models_get_every_row_once(bundle: Path) -> None:
    rows: dict[str, int] = {}
    for kind, inputs in read_inputs(bundle):
        rows[kind] = rows.get(kind, 0) + len(next(iter(inputs.values())))
    assert rows == {"item": ITEMS, "user": USERS, "user_category": USERS * PAIRS}


@pytest.mark.redis
def test_redis_alone_loads_the_very_keys_of_an_export(
    bundle: Path, own_redis: RedisServer, tmp_path: Path
) -> None:
    _export(bundle, own_redis.url)
    _write_commands(own_redis.url, tmp_path / "commands")
    with redis.Redis.from_url(own_redis.url) as client:
        before = _everything(client)
        client.flushall()
        _pipe(own_redis.url, tmp_path / "commands")
        assert _everything(client) == before
    assert len(before) > 3


def _everything(client: redis.Redis) -> dict[bytes, object]:
    return {
        key: client.hgetall(key) if client.type(key) == b"hash" else client.get(key)
        for key in client.scan_iter()
    }
