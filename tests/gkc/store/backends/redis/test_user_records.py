"""Many bytes of records come over a connection of their own, in portions, each read in its turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis

from gkc.store import GenerationManifest, Publisher, parse_store_url
from gkc.store.backends.redis import RedisReader, RedisStorage
from gkc.testing.samples import Sample, make_sample, publish_sample
from tests.redis_server import RedisServer

MODULE = "gkc.store.backends.redis.user_records"
PORTION_USERS = 100


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Sample:
    made = make_sample(items=20)
    monkeypatch.setattr(f"{MODULE}._FEW_BYTES", 10 * made.spec.mean_record_bytes)
    monkeypatch.setattr(f"{MODULE}._PORTION_BYTES", PORTION_USERS * made.spec.mean_record_bytes)
    return made


async def published(
    url: str, sample: Sample, folder: Path
) -> tuple[RedisReader, GenerationManifest]:
    storage = RedisStorage(parse_store_url(url), "center")
    generation = publish_sample(Publisher(storage), sample).generation
    storage.close()
    reader = RedisReader(parse_store_url(url), "center", mirror_dir=folder)
    return reader, await reader.manifest(generation)


def stats(client: redis.Redis, section: str) -> Any:
    return client.info(section)


async def test_many_bytes_have_a_connection_of_their_own(
    own_redis: RedisServer, sample: Sample, tmp_path: Path
) -> None:
    reader, manifest = await published(own_redis.url, sample, tmp_path)
    users = sample.users.id_column
    with redis.Redis.from_url(own_redis.url) as client:
        before = stats(client, "stats")["total_connections_received"]
        few = [await reader.fetch_users(manifest, users[k : k + 10]) for k in range(0, 1200, 10)]
        assert stats(client, "stats")["total_connections_received"] == before
        many = await asyncio.gather(*(reader.fetch_users(manifest, users) for _ in range(3)))
        assert stats(client, "stats")["total_connections_received"] == before + 1
    for records in many:
        assert list(records) == [record for some in few for record in some]
    await reader.close()


async def test_what_nobody_waits_for_any_more_counts_until_it_came(
    own_redis: RedisServer, sample: Sample, tmp_path: Path
) -> None:
    reader, manifest = await published(own_redis.url, sample, tmp_path)
    users = sample.users.id_column
    with redis.Redis.from_url(own_redis.url) as client:
        await reader.fetch_users(manifest, users[:11])
        before = stats(client, "commandstats")["cmdstat_hmget"]["calls"]
        client.execute_command("CLIENT", "PAUSE", 200, "ALL")
        for _ in range(6):
            reads = [asyncio.create_task(reader.fetch_users(manifest, users)) for _ in range(3)]
            await asyncio.sleep(0.01)
            for read in reads:
                read.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
        buckets = manifest.layout.user_buckets
        found = await reader.fetch_users(manifest, users[:PORTION_USERS])
        assert None not in found
        calls = stats(client, "commandstats")["cmdstat_hmget"]["calls"] - before
        assert calls <= 3 * buckets  # of two portions, and of the last read
    await reader.close()
