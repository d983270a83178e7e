"""The Redis store keeps the contract; below it, what only a server of keys can do."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from msgspec import structs

from gkc.errors import (
    CatalogueLostError,
    GenerationCorruptError,
    GenerationImmutableError,
    GenerationNotFoundError,
    LayoutError,
    LeaseLostError,
    StoreFullError,
    StoreUnavailableError,
    StoreUrlError,
    UnsafeStoreError,
)
from gkc.store import (
    Catalogue,
    GenerationManifest,
    KnowledgeReader,
    Publisher,
    StagedGeneration,
    Totals,
    parse_store_url,
)
from gkc.store.backends.redis import RedisReader, RedisStorage
from gkc.store.backends.redis.layout import GenerationKeys, bucket_numbers
from gkc.store.chunks import Chunks
from gkc.store.codec import id_fields
from gkc.store.ids import hashes_of
from gkc.store.protocol import Storage
from gkc.strings import Ids
from gkc.testing.contract import StoreContract
from gkc.testing.samples import (
    Sample,
    assert_serves,
    current_manifest,
    interrupt_export,
    item_slices,
    make_sample,
    publish_sample,
    small_sample,
    user_slices,
    write_sample,
)
from tests.redis_server import RedisServer, tls_server

SECRET = "hunter2secret"


class RedisPlace:
    """A namespace on a real Redis, and its keys seen from outside."""

    def __init__(self, url: str, namespace: str, mirror_dir: Path) -> None:
        self.url = url
        self.namespace = namespace
        self.mirror_dir = mirror_dir
        self.client: Any = redis.Redis.from_url(url)

    def open_pair(self, namespace: str | None = None) -> tuple[Storage, KnowledgeReader]:
        name, where = namespace or self.namespace, parse_store_url(self.url)
        return RedisStorage(where, name), RedisReader(where, name, mirror_dir=self.mirror_dir)

    def data_of(self, generation: str) -> Mapping[str, bytes]:
        keys = list(self.client.scan_iter(match=f"*{generation}*", count=1000))
        return {key.decode(): self.client.dump(key) for key in keys}

    def put_back(self, data: Mapping[str, bytes]) -> None:
        for key, raw in data.items():
            self.client.restore(key, 0, raw, replace=True)

    def bucket_of(self, generation: str, user: Ids) -> str:
        """Return the key of a user's bucket, from what is stored alone."""
        prefix = GenerationKeys(self.namespace, generation).bucket(0)[:-1]
        count = sum(key.startswith(prefix) for key in self.data_of(generation))
        return f"{prefix}{bucket_numbers(hashes_of(user), count)[0]}"

    def chunk_of(self, generation: str, item: Ids) -> str:
        """Return the key of the chunk that holds an item's id."""
        prefix = GenerationKeys(self.namespace, generation).chunk(0)[:-1]
        (wanted,) = id_fields(item)
        for key in self.data_of(generation):
            if key.startswith(prefix) and wanted in self.client.get(key):
                return key
        raise AssertionError(f"item {item} is in no chunk")

    def lose_user(self, generation: str, user: Ids) -> None:
        assert self.client.delete(self.bucket_of(generation, user))

    def lose_item(self, generation: str, item: Ids) -> None:
        assert self.client.delete(self.chunk_of(generation, item))

    def lose_manifest(self, generation: str) -> None:
        assert self.client.delete(GenerationKeys(self.namespace, generation).manifest)

    def flip_user_byte(self, generation: str, user: Ids) -> None:
        key = self.bucket_of(generation, user)
        (field,) = id_fields(user)
        record = bytearray(self.client.hget(key, field))
        record[5] ^= 0x10
        self.client.hset(key, field, bytes(record))

    def flip_item_byte(self, generation: str, item: Ids) -> None:
        key = self.chunk_of(generation, item)
        raw = bytearray(self.client.get(key))
        raw[-5] ^= 0x10
        self.client.set(key, bytes(raw))

    def set_catalogue(self, raw: bytes | None) -> None:
        key = f"gkc:{self.namespace}:catalogue"
        if raw is None:
            self.client.delete(key)
        else:
            self.client.set(key, raw)


@pytest.fixture
def place(redis_server_url: str, redis_namespace: str, tmp_path: Path) -> Iterator[RedisPlace]:
    place = RedisPlace(redis_server_url, redis_namespace, tmp_path / "mirrors")
    yield place
    place.client.close()


@pytest.fixture
def own_place(own_redis: RedisServer, tmp_path: Path) -> Iterator[RedisPlace]:
    place = RedisPlace(own_redis.url, "center", tmp_path / "mirrors")
    yield place
    place.client.close()


@pytest.fixture
async def reader(place: RedisPlace) -> AsyncIterator[RedisReader]:
    async with _reader(place) as reader:
        yield reader


@pytest.fixture
def storage(place: RedisPlace) -> Iterator[RedisStorage]:
    storage = RedisStorage(parse_store_url(place.url), place.namespace)
    yield storage
    storage.close()


@pytest.fixture
def often(storage: RedisStorage, monkeypatch: pytest.MonkeyPatch) -> RedisStorage:
    """A storage whose writers note how far they are after every write."""
    monkeypatch.setattr("gkc.store.sink._CHECKPOINT_BYTES", 1)
    return storage


class TestRedisStore(StoreContract):
    """The contract, on a Redis server."""

    @pytest.fixture
    def place(self, redis_server_url: str, redis_namespace: str, tmp_path: Path) -> RedisPlace:
        return RedisPlace(redis_server_url, redis_namespace, tmp_path / "mirrors")


# ---- what lies in the server


async def test_every_key_has_a_known_name_without_braces(
    place: RedisPlace, storage: RedisStorage
) -> None:
    sample = make_sample()
    generation = publish_sample(Publisher(storage), sample).generation
    keys = GenerationKeys(place.namespace, generation)
    known = {keys.manifest, *keys.all_but_manifest(sample.spec.layout)}
    written = set(place.data_of(generation))
    assert known - written == {keys.progress, keys.manifest[:-1] + "i"}  # that of format 1
    assert written < known
    assert not any("{" in key for key in known)
    everything = {key.decode() for key in place.client.scan_iter(f"*{place.namespace}*")}
    assert everything - written == {f"gkc:{place.namespace}:catalogue"}


async def test_size_bytes_are_those_of_keys_fields_and_values(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    generation = publish_sample(Publisher(storage), make_sample()).generation
    manifest = await reader.manifest(generation)
    size = 0
    for key in place.data_of(generation):
        if key == GenerationKeys(place.namespace, generation).manifest:
            continue
        size += len(key)
        if place.client.type(key) == b"hash":
            size += sum(len(f) + len(v) for f, v in place.client.hgetall(key).items())
        else:
            size += place.client.strlen(key)
    assert manifest.totals.size_bytes == size


async def test_a_bucket_stored_by_many_commands_is_the_same(
    place: RedisPlace,
    storage: RedisStorage,
    reader: RedisReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for command_bytes in (1 << 30, 1):  # all users of a bucket at once, then one by one
        monkeypatch.setattr("gkc.store.backends.redis.buckets._COMMAND_BYTES", command_bytes)
        sample = make_sample()
        manifest = await reader.manifest(publish_sample(Publisher(storage), sample).generation)
        await reader.verify(manifest, lambda rows: None)
        expected = sample.records(manifest.generation)
        assert await reader.fetch_users(manifest, sample.users.ids) == expected
        found.append(manifest.totals)
    assert found[0] == found[1]


async def test_the_last_bucket_and_the_first_may_be_empty(
    storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample(users=1500, items=1)
    # All of them in one bucket of the three: the hash says so.
    order = hashes_of(sample.users.ids)
    third = (order > np.uint64(2**64 // 3)) & (order < np.uint64(2 * (2**64 // 3)))
    ids = sample.users.ids[third]
    users = replace(
        sample.users,
        ids=ids,
        k_u=sample.users.k_u[third],
        pair_offsets=np.zeros(len(ids) + 1, dtype=np.int64),
        categories=sample.users.categories[:0],
        k_uc=sample.users.k_uc[:0],
    )
    spec = structs.replace(sample.spec, users=len(ids), items=1, user_categories=0)
    assert spec.layout.user_buckets == 1
    publish_sample(Publisher(storage), replace(sample, users=users, spec=spec))
    manifest = await current_manifest(reader, "v1")
    await reader.verify(manifest, lambda rows: None)
    assert list(await reader.fetch_users(manifest, sample.users.ids[~third][:3])) == [None] * 3


async def test_more_rows_than_promised_are_refused_before_they_get_unknown_names(
    place: RedisPlace, storage: RedisStorage
) -> None:
    sample = make_sample()
    for users, items in ((1000, 2300), (1200, 1900)):
        spec = structs.replace(sample.spec, users=users, items=items)
        with (
            pytest.raises(LayoutError, match="promised"),
            Publisher(storage).stage(spec, max_versions=5, resume=False) as staged,
        ):
            write_sample(staged, replace(sample, spec=spec))
        assert not place.data_of(staged.generation)


async def test_rows_out_of_order_or_of_another_width_are_refused(storage: RedisStorage) -> None:
    sample = make_sample()
    other = make_sample(dim=7, category_dim=5)
    with Publisher(storage).stage(sample.spec, max_versions=5, resume=False) as staged:
        users, items = list(user_slices(sample.users)), list(item_slices(sample.items))
        staged.sink.write_users(users[1])
        staged.sink.write_items(items[1])
        with pytest.raises(LayoutError, match="order"):
            staged.sink.write_users(users[0])
        with pytest.raises(LayoutError, match="order"):
            staged.sink.write_items(items[1])
        with pytest.raises(LayoutError, match="bytes"):
            staged.sink.write_users(other.users)
        with pytest.raises(LayoutError, match="shape"):
            staged.sink.write_items(other.items)


async def test_an_export_goes_on_in_the_middle_of_a_bucket_and_a_chunk(
    often: RedisStorage, reader: RedisReader
) -> None:
    sample, publisher = make_sample(), Publisher(often)
    before = _interrupt(publisher, sample, user_blocks=2)
    assert (before.users, before.items) == (800, 2300)
    with publisher.stage(sample.spec, max_versions=5, resume=True) as staged:
        assert staged.sink.written() == before
        # What was stored is not needed again: only what comes after it is sent.
        manifest = write_sample(staged, sample)
        await reader.verify(manifest, lambda rows: None)
        await assert_serves(reader, manifest, sample)
    whole = publish_sample(publisher, sample).generation
    assert (await reader.manifest(whole)).totals == manifest.totals


async def test_a_lost_chunk_is_found_on_resuming(place: RedisPlace, often: RedisStorage) -> None:
    sample, publisher = make_sample(), Publisher(often)
    _interrupt(publisher, sample, user_blocks=0)
    (generation,) = publisher.catalogue().generations
    place.client.delete(GenerationKeys(place.namespace, generation).chunk(0))
    with (
        pytest.raises(GenerationCorruptError, match="missing"),
        publisher.stage(sample.spec, max_versions=5, resume=True),
    ):
        pytest.fail("went on with what was lost")


async def test_a_damaged_chunk_is_found_on_resuming(place: RedisPlace, often: RedisStorage) -> None:
    sample, publisher = make_sample(), Publisher(often)
    _interrupt(publisher, sample, user_blocks=0)
    (generation,) = publisher.catalogue().generations
    key = GenerationKeys(place.namespace, generation).chunk(0)
    raw = bytearray(place.client.get(key))
    raw[4096 + 3] ^= 1  # of the first section, which lies behind the header to come
    place.client.set(key, bytes(raw))
    with (
        pytest.raises(GenerationCorruptError, match="chunk 0 of its items is damaged"),
        publisher.stage(sample.spec, max_versions=5, resume=True),
    ):
        pytest.fail("went on with what was damaged")


async def test_a_sealed_generation_cannot_be_begun_anew(storage: RedisStorage) -> None:
    sample = small_sample("v1")
    generation = publish_sample(Publisher(storage), sample).generation
    lease = storage.acquire_lease("v1", "me")
    with pytest.raises(GenerationImmutableError):
        storage.open_sink(generation, sample.spec, lease, resume=False)
    lease.release()


async def test_a_writer_whose_lease_is_gone_writes_nothing_more(
    place: RedisPlace, storage: RedisStorage
) -> None:
    sample = make_sample(items=9000, dim=40)
    lease = storage.acquire_lease("v1", "me")
    sink = storage.open_sink("0000000001-test", sample.spec, lease, resume=False)
    lease.release()
    with pytest.raises(LeaseLostError):
        sink.write_items(sample.items)
    sink.close()
    assert not place.data_of("0000000001-test")


# ---- damage


async def publish(
    storage: RedisStorage, reader: RedisReader, sample: Sample
) -> tuple[str, GenerationManifest]:
    generation = publish_sample(Publisher(storage), sample).generation
    return generation, await reader.manifest(generation)


async def test_a_lost_bucket_is_named(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample()
    generation, manifest = await publish(storage, reader, sample)
    key = place.bucket_of(generation, sample.users.ids[:1])
    place.client.delete(key)
    number = key.rpartition(":")[2]
    with pytest.raises(GenerationCorruptError, match=f"bucket {number} of its users is missing"):
        await reader.fetch_users(manifest, np.array([sample.users.ids[0], 5], dtype=np.int64))
    # Users of other buckets are served.
    last = sample.users.ids[-1:]
    assert place.bucket_of(generation, last[:1]) != key
    (record,) = await reader.fetch_users(manifest, last)
    assert record == sample.records(generation)[-1]


async def test_a_bucket_whose_marker_alone_was_lost_is_damage(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample()
    generation, manifest = await publish(storage, reader, sample)
    key = place.bucket_of(generation, sample.users.ids[:1])
    marker = place.client.hget(key, b"")
    place.client.hdel(key, b"")
    with pytest.raises(GenerationCorruptError, match="missing"):
        await reader.fetch_users(manifest, sample.users.ids[:1])
    with pytest.raises(GenerationCorruptError, match="no marker"):
        await reader.verify(manifest, lambda rows: None)
    place.client.hset(key, b"", marker[:16] + b"another generation")
    with pytest.raises(GenerationCorruptError, match="another generation"):
        await reader.fetch_users(manifest, sample.users.ids[:1])
    with pytest.raises(GenerationCorruptError, match="another generation"):
        await reader.verify(manifest, lambda rows: None)


async def test_a_lost_user_is_found_by_verify(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample()
    generation = publish_sample(Publisher(storage), sample).generation
    user = sample.users.ids[3:4]
    place.client.hdel(place.bucket_of(generation, user[:1]), *id_fields(user))
    with pytest.raises(GenerationCorruptError, match="users instead of"):
        await reader.verify(await reader.manifest(generation), lambda rows: None)


async def test_buckets_read_a_user_at_a_time_are_verified_alike(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gkc.store.backends.redis.verify._PIECE_BYTES", 1)
    sample = make_sample()
    generation, manifest = await publish(storage, reader, sample)
    rows: list[int] = []
    await reader.verify(manifest, rows.append)
    assert sum(rows) == manifest.totals.users + manifest.totals.items
    user = sample.users.ids[3:4]
    place.client.hdel(place.bucket_of(generation, user[:1]), *id_fields(user))
    with pytest.raises(GenerationCorruptError, match="users instead of"):
        await reader.verify(manifest, lambda _: None)


async def test_a_bucket_deleted_while_it_is_verified_is_no_damage(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gkc.store.backends.redis.verify._PIECE_BYTES", 1)
    publisher, sample = Publisher(storage), make_sample(users=1500)
    generation = publish_sample(publisher, sample).generation
    keys = GenerationKeys(place.namespace, generation)

    def delete_half_of_the_next(_: int) -> None:
        publisher.delete(sample.spec.version, 0.0)
        place.client.delete(keys.manifest)
        place.client.hdel(keys.bucket(1), b"", *place.client.hkeys(keys.bucket(1))[:9])

    with pytest.raises(GenerationNotFoundError):
        await reader.verify(await reader.manifest(generation), delete_half_of_the_next)


async def test_a_marker_of_another_bucket_is_damage(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample()
    generation, manifest = await publish(storage, reader, sample)
    key = place.bucket_of(generation, sample.users.ids[:1])
    other = place.bucket_of(generation, sample.users.ids[-1:])
    place.client.hset(key, b"", place.client.hget(other, b""))
    with pytest.raises(GenerationCorruptError, match="has the marker of bucket 2"):
        await reader.fetch_users(manifest, sample.users.ids[:1])
    with pytest.raises(GenerationCorruptError, match="has the marker of bucket 2"):
        await reader.verify(manifest, lambda rows: None)
    place.client.hset(key, b"", b"short")
    with pytest.raises(GenerationCorruptError, match="marker"):
        await reader.fetch_users(manifest, sample.users.ids[:1])


async def test_a_record_of_another_user_is_found_by_verify(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample()
    generation = publish_sample(Publisher(storage), sample).generation
    key = place.bucket_of(generation, sample.users.ids[:1])
    one, two = id_fields(sample.users.ids[:2])
    first, second = place.client.hmget(key, one, two)
    place.client.hset(key, one, second)
    place.client.hset(key, two, first)
    with pytest.raises(GenerationCorruptError, match=r"bucket 0 of its users .* of another user"):
        await reader.verify(await reader.manifest(generation), lambda rows: None)


async def test_chunks_are_the_bytes_of_the_table_file(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample(items=9000, dim=40)
    generation, manifest = await publish(storage, reader, sample)
    keys, chunks = GenerationKeys(place.namespace, generation), Chunks(manifest)
    assert chunks.count == 4
    stored = [place.client.get(keys.chunk(number)) for number in range(chunks.count)]
    assert [len(raw) for raw in stored] == [chunks.size(number) for number in range(chunks.count)]
    (await reader.item_table(manifest, 0)).close()
    (mirror,) = place.mirror_dir.rglob("*.gkt")
    assert mirror.read_bytes() == b"".join(stored)


async def test_chunks_that_were_swapped_are_named(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample(items=9000, dim=40)
    generation, manifest = await publish(storage, reader, sample)
    keys = GenerationKeys(place.namespace, generation)
    first, second = place.client.mget(keys.chunk(1), keys.chunk(2))
    place.client.mset({keys.chunk(1): second, keys.chunk(2): first})
    with pytest.raises(GenerationCorruptError, match="chunk 1 of its items is damaged"):
        await reader.item_table(manifest, 0)
    with pytest.raises(GenerationCorruptError, match="of its items is damaged"):
        await reader.verify(manifest, lambda rows: None)


async def test_few_items_are_read_by_few_ranges(own_place: RedisPlace) -> None:
    sample = make_sample(items=30_000, dim=40)
    storage, _ = own_place.open_pair()
    publish_sample(Publisher(storage), sample)
    storage.close()
    async with _reader(own_place) as reader:
        manifest = await current_manifest(reader, "v1")
        for picks in (slice(7, 8), slice(100, 350)):
            own_place.client.config_resetstat()
            table = await reader.items_of(manifest, sample.items.ids[picks])
            rows = table.rows_of(sample.items.ids[picks])
            np.testing.assert_array_equal(table.take(rows).k_i, sample.items.k_i[picks])
            calls = own_place.client.info("commandstats")["cmdstat_getrange"]["calls"]
            assert calls <= 6 * len(rows)
    assert not list(own_place.mirror_dir.rglob("*.gkt"))


@pytest.mark.parametrize("size", [0, 5000])
async def test_a_chunk_that_is_lost_or_short_makes_no_unknown_items(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader, size: int
) -> None:
    sample = make_sample()
    generation, manifest = await publish(storage, reader, sample)
    key = GenerationKeys(place.namespace, generation).chunk(0)
    place.client.set(key, place.client.get(key)[:size])
    for read in (
        reader.items_of(manifest, sample.items.ids[-1:]),
        reader.item_table(manifest, 0),
        reader.verify(manifest, lambda rows: None),
    ):
        with pytest.raises(GenerationCorruptError, match="chunk 0 of its items"):
            await read


async def test_a_mirror_goes_on_where_it_was_interrupted(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample(items=9000, dim=40)
    generation, manifest = await publish(storage, reader, sample)
    keys = GenerationKeys(place.namespace, generation)
    last = place.client.get(keys.chunk(3))
    place.client.delete(keys.chunk(3))
    with pytest.raises(GenerationCorruptError, match="chunk 3 of its items is missing"):
        await reader.item_table(manifest, 0)
    place.client.set(keys.chunk(3), last)
    place.client.delete(keys.chunk(0), keys.chunk(1), keys.chunk(2))  # they are not read again
    table = await reader.item_table(manifest, 0)
    rows = table.rows_of(sample.items.ids)
    np.testing.assert_array_equal(table.take(rows).k_i, sample.items.k_i)
    table.close()


async def test_keys_of_another_type_are_damage(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample()
    generation, manifest = await publish(storage, reader, sample)
    user, item = sample.users.ids[:1], sample.items.ids[:1]
    keys = (
        place.bucket_of(generation, user),
        place.chunk_of(generation, item),
        GenerationKeys(place.namespace, generation).manifest,
        f"gkc:{place.namespace}:catalogue",
    )
    for key in keys:
        place.client.delete(key)
        place.client.rpush(key, b"x")
    with pytest.raises(GenerationCorruptError, match="another type"):
        await reader.fetch_users(manifest, sample.users.ids[:1])
    with pytest.raises(GenerationCorruptError, match="another type"):
        await reader.items_of(manifest, sample.items.ids[:1])
    with pytest.raises(GenerationCorruptError, match=r"key .*:m holds another type"):
        await reader.manifest(generation)


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("list", ("RPUSH", "x")),
        ("set", ("SADD", "x")),
        ("zset", ("ZADD", "1", "x")),
        ("hash", ("HSET", "x", "y")),
        ("stream", ("XADD", "*", "x", "y")),
    ],
)
async def test_a_catalogue_of_another_type_is_told_by_its_key_and_type(
    place: RedisPlace,
    storage: RedisStorage,
    reader: RedisReader,
    kind: str,
    command: tuple[str, ...],
) -> None:
    key = f"gkc:{place.namespace}:catalogue"
    place.client.execute_command(command[0], key, *command[1:])
    words = f"key {key} holds a {kind} and no catalogue; delete that key, or choose another"
    with pytest.raises(CatalogueLostError, match=words):
        await reader.catalogue()
    with pytest.raises(CatalogueLostError, match=words):
        storage.read_catalogue()


async def test_a_user_who_may_not_ask_for_types_is_told_of_the_key(own_place: RedisPlace) -> None:
    key = f"gkc:{own_place.namespace}:catalogue"
    own_place.client.rpush(key, "x")
    rights = ["+get", "+ping"]
    own_place.client.acl_setuser("reader", enabled=True, nopass=True, keys="*", commands=rights)
    where = parse_store_url(own_place.url.replace("redis://", "redis://reader:any@"))
    words = f"key {key} holds another type and no catalogue"
    with (
        closing(RedisStorage(where, own_place.namespace)) as storage,
        pytest.raises(CatalogueLostError, match=words),
    ):
        storage.read_catalogue()
    reader = RedisReader(where, own_place.namespace, mirror_dir=own_place.mirror_dir)
    with pytest.raises(CatalogueLostError, match=words):
        await reader.catalogue()
    await reader.close()


def test_progress_of_another_type_is_told_by_its_key(
    place: RedisPlace, often: RedisStorage
) -> None:
    sample, publisher = make_sample(), Publisher(often)
    _interrupt(publisher, sample, user_blocks=0)
    (generation,) = publisher.catalogue().generations
    key = GenerationKeys(place.namespace, generation).progress
    place.client.delete(key)
    place.client.rpush(key, "x")
    words = f"key {key} holds a list, which gkc never stores there; delete that key"
    with (
        pytest.raises(StoreUnavailableError, match=words),
        publisher.stage(sample.spec, max_versions=5, resume=True),
    ):
        pytest.fail("went on without a note")


def test_a_lease_of_another_type_is_told_by_its_key(
    place: RedisPlace, storage: RedisStorage
) -> None:
    key = f"gkc:{place.namespace}:lease:v1"
    place.client.hset(key, "x", "y")
    with pytest.raises(StoreUnavailableError, match=f"key {key} holds a hash, which gkc never"):
        storage.acquire_lease("v1", "me")


async def test_a_flipped_bit_of_the_manifest_is_damage(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    generation = publish_sample(Publisher(storage), make_sample()).generation
    key = GenerationKeys(place.namespace, generation).manifest
    raw = place.client.get(key)
    place.client.set(key, raw.replace(b'"dim":6', b'"dim":7'))
    with pytest.raises(GenerationCorruptError, match="manifest"):
        await reader.manifest(generation)
    place.client.set(key, raw.replace(generation.encode(), b"0000000009-12345678"))
    with pytest.raises(GenerationCorruptError, match="manifest"):
        await reader.manifest(generation)


async def test_a_flushed_server_is_not_a_store_of_unknown_users(own_place: RedisPlace) -> None:
    sample = make_sample()
    storage, _ = own_place.open_pair()
    publish_sample(Publisher(storage), sample)
    async with _reader(own_place) as reader:
        manifest = await current_manifest(reader, "v1")
        own_place.client.flushall()
        assert await reader.catalogue() is None
        with pytest.raises(GenerationNotFoundError):
            await reader.fetch_users(manifest, sample.users.ids[:1])
        with pytest.raises(GenerationNotFoundError):
            await reader.item_table(manifest, 0)
    storage.close()


# ---- reading


async def test_users_of_many_buckets_come_in_one_round_trip(
    own_place: RedisPlace,
) -> None:
    sample = make_sample()
    storage, _ = own_place.open_pair()
    publish_sample(Publisher(storage), sample)
    storage.close()
    async with _reader(own_place) as reader:
        manifest = await current_manifest(reader, "v1")
        before = own_place.client.info("stats")["total_reads_processed"]
        await reader.fetch_users(manifest, sample.users.ids)
        after = own_place.client.info("stats")["total_reads_processed"]
        calls = own_place.client.info("commandstats")["cmdstat_hmget"]["calls"]
        assert calls == sample.spec.layout.user_buckets == 3
        assert after - before <= 2  # one for the users, one for this INFO


async def test_many_requests_at_once_share_one_connection(own_place: RedisPlace) -> None:
    sample = make_sample()
    storage, _ = own_place.open_pair()
    publish_sample(Publisher(storage), sample)
    storage.close()
    async with _reader(own_place) as reader:
        manifest = await current_manifest(reader, "v1")

        async def fetch(row: int) -> bytes | memoryview | None:
            await asyncio.sleep(row % 7 / 1000)
            (record,) = await reader.fetch_users(manifest, sample.users.ids[row : row + 1])
            return record

        rows = [k % 1200 for k in range(3000)]
        records = await asyncio.gather(*map(fetch, rows))
        expected = sample.records(manifest.generation)
        assert records == [expected[row] for row in rows]
        assert len(own_place.client.client_list()) == 1 + 1  # the reader's, and this client's


async def test_whoever_gives_up_does_not_disturb_the_others(
    place: RedisPlace, storage: RedisStorage, reader: RedisReader
) -> None:
    sample = make_sample()
    publish_sample(Publisher(storage), sample)
    manifest = await current_manifest(reader, "v1")
    expected = sample.records(manifest.generation)
    for pause in (0.0, 0.0001, 0.001):
        tasks = [
            asyncio.create_task(reader.fetch_users(manifest, sample.users.ids[k : k + 1]))
            for k in range(20)
        ]
        await asyncio.sleep(pause)
        for task in tasks[::2]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for k, answer in enumerate(done):
            if k % 2:
                assert answer == [expected[k]]
            else:
                assert isinstance(answer, asyncio.CancelledError | list)


async def test_a_copy_of_items_from_a_server_that_hangs_is_given_up(
    place: RedisPlace, storage: RedisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gkc.store.backends.redis.chunk_source._CHUNK_TIMEOUT_SECONDS", 0.05)
    publish_sample(Publisher(storage), small_sample("v1"))
    async with _reader(place) as intact:
        manifest = await current_manifest(intact, "v1")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def let_in_and_hang() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(b"+OK\r\n")
                while client.recv(65536):
                    pass

        thread = threading.Thread(target=let_in_and_hang)
        thread.start()
        where = parse_store_url(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        reader = RedisReader(where, place.namespace, mirror_dir=place.mirror_dir)
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            await reader.item_table(manifest, 0)
        await reader.close()
        thread.join()


def test_the_name_of_a_namespace_is_checked(place: RedisPlace) -> None:
    with pytest.raises(StoreUrlError, match="namespace"):
        RedisStorage(parse_store_url(place.url), "a:b")


# ---- a server that fails


async def test_a_server_that_was_restarted_is_read_again_at_once(
    own_redis: RedisServer, own_place: RedisPlace
) -> None:
    storage, _ = own_place.open_pair()
    publish_sample(Publisher(storage), small_sample("v1"))
    async with _reader(own_place) as reader:
        await asyncio.gather(*(reader.catalogue() for _ in range(5)))
        own_redis.stop()
        with pytest.raises(StoreUnavailableError, match="refused"):
            await reader.catalogue()
        with pytest.raises(StoreUnavailableError, match="refused"):
            storage.read_catalogue()
        own_redis.start()  # empty, as it keeps nothing on disk
        assert await reader.catalogue() is None
        assert storage.read_catalogue() is None
        publish_sample(Publisher(storage), small_sample("v1"))
        assert (await reader.catalogue() or Catalogue()).newest_first() == ["v1"]
    storage.close()


async def test_a_server_that_restarts_unseen_costs_no_request(
    own_redis: RedisServer, own_place: RedisPlace
) -> None:
    async with _reader(own_place) as reader:
        assert await reader.catalogue() is None
        own_redis.stop()
        own_redis.start()
        assert await reader.catalogue() is None


async def test_a_server_that_hangs_is_given_up_in_time(
    own_redis: RedisServer, own_place: RedisPlace
) -> None:
    where = parse_store_url(own_place.url)
    reader = RedisReader(where, "center", mirror_dir=own_place.mirror_dir, timeout_ms=150)
    assert await reader.catalogue() is None
    own_place.client.execute_command("CLIENT", "PAUSE", 700, "ALL")
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="no answer within 150 ms"):
        await reader.catalogue()
    assert time.monotonic() - started < 0.6
    await asyncio.sleep(0.8)
    assert await reader.catalogue() is None
    await reader.close()


async def test_a_closed_reader_answers_nobody(own_place: RedisPlace) -> None:
    reader = RedisReader(parse_store_url(own_place.url), "center", mirror_dir=own_place.mirror_dir)
    assert await reader.catalogue() is None
    own_place.client.execute_command("CLIENT", "PAUSE", 500, "ALL")
    waiting = []
    for _ in range(12):  # more than there are connections: the last of them are not even sent
        waiting.append(asyncio.create_task(reader.catalogue()))
        await asyncio.sleep(0.01)
    await reader.close()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(a, StoreUnavailableError) and "closed" in str(a) for a in answers)
    with pytest.raises(StoreUnavailableError, match="closed"):
        await reader.catalogue()


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        ("", "asks for a password"),
        (f":{SECRET}@", "user name or the password"),
        (f"ghost:{SECRET}@", "user name or the password"),
        (f"limited:{SECRET}@", "may not do this"),
    ],
)
async def test_refused_credentials_are_named_and_never_shown(
    own_redis: RedisServer, own_place: RedisPlace, credentials: str, message: str
) -> None:
    own_place.client.execute_command(
        "ACL", "SETUSER", "limited", "on", f">{SECRET}", "~*", "+ping", "+select", "+client"
    )
    own_place.client.config_set("requirepass", "another")
    place = RedisPlace(
        own_place.url.replace("redis://", f"redis://{credentials}"), "center", own_place.mirror_dir
    )
    async with _reader(place) as reader:
        with pytest.raises(StoreUnavailableError, match=message) as raised:
            await reader.catalogue()
        assert SECRET not in str(raised.value)
    storage, _ = place.open_pair()
    with pytest.raises(StoreUnavailableError, match=message) as raised:
        storage.read_catalogue()
    assert SECRET not in str(raised.value)
    storage.close()


async def test_a_password_lets_in(own_redis: RedisServer, own_place: RedisPlace) -> None:
    own_place.client.config_set("requirepass", SECRET)
    place = RedisPlace(
        own_place.url.replace("redis://", f"redis://:{SECRET}@"), "center", own_place.mirror_dir
    )
    storage, _ = place.open_pair()
    publish_sample(Publisher(storage), small_sample("v1"))
    async with _reader(place) as reader:
        assert (await reader.catalogue() or Catalogue()).newest_first() == ["v1"]
        assert SECRET not in reader.store
    storage.close()
    place.client.close()


async def test_a_database_that_is_not_there_is_named(own_place: RedisPlace) -> None:
    place = RedisPlace(own_place.url[:-1] + "99", "center", own_place.mirror_dir)
    async with _reader(place) as reader:
        with pytest.raises(StoreUnavailableError, match="no database"):
            await reader.catalogue()


async def test_tls_to_a_port_without_tls_is_hinted_at(own_place: RedisPlace) -> None:
    where = parse_store_url(own_place.url.replace("redis://", "rediss://"))
    reader = RedisReader(where, "center", mirror_dir=own_place.mirror_dir, timeout_ms=200)
    with pytest.raises(StoreUnavailableError, match="does this port speak TLS"):
        await reader.catalogue()
    await reader.close()


async def test_a_host_that_is_none_is_named(tmp_path: Path) -> None:
    where = parse_store_url("redis://nowhere.invalid:6379/0")
    async with _reader(RedisPlace(where.url, "center", tmp_path)) as reader:
        with pytest.raises(StoreUnavailableError, match="cannot connect"):
            await reader.catalogue()
    storage = RedisStorage(where, "center")
    with pytest.raises(StoreUnavailableError, match="cannot connect"):
        storage.read_catalogue()
    storage.close()


async def test_a_unix_socket_is_a_store(own_redis: RedisServer, tmp_path: Path) -> None:
    path = own_redis.folder / "s"
    server = RedisServer(own_redis.binary, own_redis.folder, "--unixsocket", str(path))
    server.start()
    try:
        place = RedisPlace(f"unix://{path}", "center", tmp_path / "mirrors")
        storage, _ = place.open_pair()
        sample = make_sample()
        publish_sample(Publisher(storage), sample)
        async with _reader(place) as reader:
            await assert_serves(reader, await current_manifest(reader, "v1"), sample)
        storage.close()
        place.client.close()
    finally:
        server.stop()


async def test_tls_with_a_private_authority(own_redis: RedisServer, tmp_path: Path) -> None:
    mirrors = tmp_path / "mirrors"
    with tls_server(own_redis, tmp_path) as tls:
        url = f"rediss://127.0.0.1:{tls.port}/0"
        trusting = RedisPlace(f"{url}?ssl_ca_certs={tls.certificate}", "center", mirrors)
        sample = make_sample()
        storage, _ = trusting.open_pair()
        publish_sample(Publisher(storage), sample)
        storage.close()
        async with _reader(trusting) as reader:
            await assert_serves(reader, await current_manifest(reader, "v1"), sample)
        trusting.client.close()
        async with _reader(RedisPlace(url, "center", mirrors)) as reader:
            with pytest.raises(StoreUnavailableError, match=r"TLS failed \(self.signed"):
                await reader.catalogue()
        async with _reader(RedisPlace(url.replace("rediss", "redis"), "center", mirrors)) as reader:
            with pytest.raises(StoreUnavailableError, match="use rediss://"):
                await reader.catalogue()


async def test_a_full_server_is_named_and_nothing_is_published(own_place: RedisPlace) -> None:
    storage, _ = own_place.open_pair()
    publisher = Publisher(storage)
    sample = make_sample(users=20_000)
    with (
        pytest.raises(StoreFullError, match="out of memory"),
        publisher.stage(sample.spec, max_versions=5, resume=False) as staged,
    ):
        _write_until_full(own_place, staged, sample)
    assert not publisher.catalogue().generations
    assert not own_place.data_of(staged.generation)
    storage.close()


async def test_a_full_server_is_swept(own_place: RedisPlace) -> None:
    storage, _ = own_place.open_pair()
    publisher = Publisher(storage)
    publish_sample(publisher, small_sample("v1"))
    dead = interrupt_export(publisher, make_sample("v2"), "sealed", KeyboardInterrupt())
    own_place.client.config_set("maxmemory", 1)
    assert publisher.check_export("v2", 5) == []
    assert publisher.sweep() == [dead]
    assert not own_place.data_of(dead)
    assert "v1" not in publisher.delete("v1", 0).versions
    assert len(publisher.delete_retired(wait=False)) == 1
    storage.close()


def test_a_server_that_cannot_save_is_named(own_redis: RedisServer) -> None:
    folder = own_redis.folder / "dumps"
    folder.mkdir()
    server = RedisServer(own_redis.binary, folder, "--save", "3600", "1")
    server.start()
    (folder / "dump.rdb").mkdir()  # a directory where the dump should go
    with redis.Redis.from_url(server.url) as client:
        client.bgsave()
        deadline = time.monotonic() + 10
        while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    storage = RedisStorage(parse_store_url(server.url), "center")
    with pytest.raises(StoreUnavailableError, match="cannot save"):
        storage.swap_catalogue(None, b"catalogue")
    storage.close()
    (folder / "dump.rdb").rmdir()  # else it would refuse to end
    server.stop()


async def test_a_swap_that_came_to_pass_is_no_failure(
    place: RedisPlace, storage: RedisStorage
) -> None:
    first, second = (Catalogue(revision=k).to_bytes() for k in (1, 2))
    port = int(place.url.rpartition(":")[2].partition("/")[0])
    with _dropping_proxy(port, b"gkc-catalogue") as proxy_port:
        url = f"redis://127.0.0.1:{proxy_port}/0"
        cut_off = RedisStorage(parse_store_url(url), place.namespace)
        # The server is told, and its answer is lost.
        assert cut_off.swap_catalogue(None, first)
        assert storage.read_catalogue() == first
        with pytest.raises(StoreUnavailableError):
            cut_off.swap_catalogue(None, second)
        assert storage.read_catalogue() == first
        cut_off.close()


# ---- servers that are not safe to publish into, and replicas


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_server_that_may_evict_is_refused(own_place: RedisPlace, policy: str) -> None:
    storage, _ = own_place.open_pair()
    own_place.client.config_set("maxmemory-policy", policy)
    with pytest.raises(UnsafeStoreError, match=rf"{policy}.*noeviction"):
        Publisher(storage).check_export("v1", 5)
    for safe in ("noeviction", "volatile-lru", "volatile-ttl"):
        own_place.client.config_set("maxmemory-policy", safe)
        assert Publisher(storage).check_export("v1", 5) == []
    storage.close()


def test_a_read_only_replica_is_refused(own_redis: RedisServer, own_place: RedisPlace) -> None:
    with _replica_of(own_redis) as replica:
        storage = RedisStorage(parse_store_url(replica.url), "center")
        with pytest.raises(UnsafeStoreError, match=f"replica of 127.0.0.1:{own_redis.port}"):
            storage.check_safe()
        with pytest.raises(StoreUnavailableError, match="read-only replica"):
            storage.swap_catalogue(None, b"catalogue")
        storage.close()


async def test_publishing_waits_for_replicas(
    own_redis: RedisServer, own_place: RedisPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = RedisStorage(parse_store_url(own_place.url), "center")
    storage.wait_for_replicas()  # there are none
    with _replica_of(own_redis) as replica:
        _wait_for_replica(own_place)
        sample = make_sample()
        publish_sample(Publisher(storage), sample)
        on_replica = RedisPlace(replica.url, "center", own_place.mirror_dir)
        async with _reader(on_replica) as reader:
            await assert_serves(reader, await current_manifest(reader, "v1"), sample)
        on_replica.client.close()
        replica.signal(signal.SIGSTOP)
        for name in ("_REPLICA_TIMEOUT_SECONDS", "_REPLICA_STEP_SECONDS"):
            monkeypatch.setattr(f"gkc.store.backends.redis.storage.{name}", 0.4)
        try:
            with pytest.raises(StoreUnavailableError, match="0 of its 1 replicas"):
                publish_sample(Publisher(storage), make_sample("v2"))
        finally:
            replica.signal(signal.SIGCONT)
        assert Publisher(storage).catalogue().newest_first() == ["v1"]
    storage.close()


# ---- helpers


def _write_until_full(place: RedisPlace, staged: StagedGeneration, sample: Sample) -> None:
    used = place.client.info("memory")["used_memory"]
    place.client.config_set("maxmemory", used + 300_000)
    write_sample(staged, sample)


def _interrupt(publisher: Publisher, sample: Sample, user_blocks: int) -> Totals:
    """Write all items and some users, press Ctrl-C, and return what is stored by then."""
    written = Totals()
    with (
        suppress(KeyboardInterrupt),
        publisher.stage(sample.spec, max_versions=5, resume=False) as staged,
    ):
        for items in item_slices(sample.items):
            staged.sink.write_items(items)
        for users in list(user_slices(sample.users))[:user_blocks]:
            staged.sink.write_users(users)
        written = staged.sink.written()
        raise KeyboardInterrupt
    return written


class _Reader:
    def __init__(self, place: RedisPlace) -> None:
        where = parse_store_url(place.url)
        self.reader = RedisReader(
            where, place.namespace, mirror_dir=place.mirror_dir, timeout_ms=5000
        )

    async def __aenter__(self) -> RedisReader:
        return self.reader

    async def __aexit__(self, *_: object) -> None:
        await self.reader.close()


def _reader(place: RedisPlace) -> _Reader:
    return _Reader(place)


@contextmanager
def _replica_of(primary: RedisServer) -> Iterator[RedisServer]:
    folder = primary.folder / "replica"
    folder.mkdir()
    arguments = ("--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-load", "disabled")
    replica = RedisServer(primary.binary, folder, *arguments)
    replica.start()
    try:
        yield replica
    finally:
        replica.stop()


def _wait_for_replica(place: RedisPlace) -> None:
    deadline = time.monotonic() + 20
    while place.client.info("replication").get("slave0", {}).get("state") != "online":
        assert time.monotonic() < deadline, "the replica does not come online"
        time.sleep(0.05)


@contextmanager
def _dropping_proxy(port: int, word: bytes) -> Iterator[int]:
    """Pass bytes on to a server, but drop a connection's answer to a command with this word."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                while data := client.recv(1 << 20):
                    server.sendall(data)
                    answer = server.recv(1 << 20)
                    if word in data:
                        break
                    client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)
