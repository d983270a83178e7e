"""The one sink, on both backends: what it refuses, and what an interrupted writer left."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from msgspec import structs

from gkc.errors import GenerationCorruptError, GenerationImmutableError, LayoutError
from gkc.store import GenerationSpec, Publisher, Storage, parse_store_url
from gkc.store.backends.file import FileStorage
from gkc.store.backends.redis import RedisStorage
from gkc.store.backends.redis.layout import GenerationKeys
from gkc.store.sink import GenerationSink, Lease
from gkc.testing.samples import (
    Sample,
    item_slices,
    make_sample,
    publish_sample,
    user_slices,
    write_sample,
)

GENERATION = "0000000001-test"


class Place:
    """A storage that notes how far its writers are at every write, and the note from outside."""

    def __init__(
        self,
        storage: Storage,
        read: Callable[[], bytes | None],
        write: Callable[[bytes], Any],
    ) -> None:
        self.storage = storage
        self.read_progress = read
        self.write_progress = write
        self.leases: list[Lease] = []

    def sink(self, spec: GenerationSpec, *, resume: bool = False) -> GenerationSink:
        self.leases.append(self.storage.acquire_lease(spec.version, "me"))
        return self.storage.open_sink(GENERATION, spec, self.leases[-1], resume=resume)


@pytest.fixture(params=["file", "redis"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.setattr("gkc.store.sink._CHECKPOINT_BYTES", 1)
    if request.param == "file":
        storage: Storage = FileStorage(tmp_path, "center")
        note = tmp_path / "center" / "generations" / GENERATION / "progress.json"
        found = Place(
            storage, lambda: note.read_bytes() if note.exists() else None, note.write_bytes
        )
        client = None
    else:
        url, namespace = (
            request.getfixturevalue(name) for name in ("redis_server_url", "redis_namespace")
        )
        storage = RedisStorage(parse_store_url(url), namespace)
        client = redis.Redis.from_url(url)
        key = GenerationKeys(namespace, GENERATION).progress
        raw: Any = client
        found = Place(storage, lambda: raw.get(key), lambda data: raw.set(key, data))
    yield found
    for lease in found.leases:
        lease.release()
    storage.close()
    if client is not None:
        client.close()


def interrupt(place: Place, sample: Sample) -> bytes:
    """Write all items and a slice of users, stop, and return the note of progress."""
    sink = place.sink(sample.spec)
    for items in item_slices(sample.items):
        sink.write_items(items)
    sink.write_users(next(user_slices(sample.users)))
    sink.close()
    place.leases.pop().release()
    raw = place.read_progress()
    assert raw is not None
    return raw


def test_what_was_noted_is_what_a_resuming_writer_skips(place: Place) -> None:
    sample = make_sample(items=9000, dim=40)  # several chunks, and users in the middle of a bucket
    interrupt(place, sample)
    sink = place.sink(sample.spec, resume=True)
    written = sink.written()
    assert (written.users, written.items) == (400, 9000)
    for users in user_slices(sample.users, written.users):
        sink.write_users(users)
    totals = sink.seal().totals
    assert (totals.users, totals.items) == (1200, 9000)
    assert place.read_progress() is None
    sink.close()


def test_a_sealed_generation_is_resumed_and_never_begun_anew(place: Place) -> None:
    sample = make_sample()
    generation = publish_sample(Publisher(place.storage), sample).generation
    lease = place.storage.acquire_lease("v1", "me")
    sink = place.storage.open_sink(generation, sample.spec, lease, resume=True)
    assert sink.written().users == 1200
    assert sink.seal().generation == generation
    sink.close()
    with pytest.raises(GenerationImmutableError):
        place.storage.open_sink(generation, sample.spec, lease, resume=False)
    lease.release()


def framed(content: bytes) -> bytes:
    crc32 = zlib.crc32(content)
    return b'{"format":"gkc-progress/2","crc32":%d,"content":%b}' % (crc32, content)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"rows":400', b'"rows":401'),
        (b'"rows":2300', b'"rows":2301'),
        (b'"rows":2300', b'"rows":4294967296'),
        (b'"type":"table"', b'"type":"other"'),
        (b'"starts":{"length":', b'"starts":{"length":9'),
        (b'"last_hash":', b'"last_hash":-'),
        (b'"totals":{', b'"totals":{"more":1,'),
    ],
)
def test_a_sealed_note_that_does_not_fit_is_damage(place: Place, old: bytes, new: bytes) -> None:
    sample = make_sample()
    raw = interrupt(place, sample)
    content = raw[raw.index(b'"content":') + len(b'"content":') : -1]
    assert old in content
    if old == b'"rows":400' and b"buckets" in content:
        return  # of buckets, the number of rows says nothing about lengths
    place.write_progress(framed(content.replace(old, new)))
    with pytest.raises(GenerationCorruptError, match="note of its progress"):
        place.sink(sample.spec, resume=True)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[" * 100_000, b'{"rows":1}'])
def test_a_note_that_is_none_is_damage(place: Place, raw: bytes) -> None:
    sample = make_sample()
    interrupt(place, sample)
    place.write_progress(raw)
    with pytest.raises(GenerationCorruptError, match="note of its progress"):
        place.sink(sample.spec, resume=True)


def test_the_note_of_another_backend_is_damage(place: Place) -> None:
    sample = make_sample()
    raw = interrupt(place, sample)
    order = b'{"rows":0,"last_hash":-1,"last_name":""}'
    table = b'{"type":"table","order":%b,"sections":{}}' % order
    buckets = b'{"type":"buckets","order":%b}' % order
    other = table if b'"buckets"' in raw else buckets
    place.write_progress(framed(b'{"totals":{},"items":%b,"users":%b}' % (table, other)))
    with pytest.raises(GenerationCorruptError, match=r"\$\.users"):
        place.sink(sample.spec, resume=True)


def test_rows_that_do_not_fit_are_refused(place: Place) -> None:
    sample, wider = make_sample(), make_sample(dim=7, category_dim=5)
    sink = place.sink(sample.spec)
    users, items = list(user_slices(sample.users)), list(item_slices(sample.items))
    sink.write_users(users[1])
    sink.write_items(items[1])
    for wrong_users, message in (
        (users[0], "users must come in ascending order"),
        (wider.users, "not fit"),
    ):
        with pytest.raises(LayoutError, match=message):
            sink.write_users(wrong_users)
    named = replace(items[2], names=[b"x"] * 400)
    for wrong_items, message in (
        (items[1], "items must come in ascending order"),
        (wider.items, "not fit"),
        (named, "not of type int64"),
    ):
        with pytest.raises(LayoutError, match=message):
            sink.write_items(wrong_items)
    with pytest.raises(LayoutError, match="400 users, 400 items"):
        sink.seal()
    sink.close()


def test_a_generation_without_elements_of_pairs_is_stored(place: Place) -> None:
    sample = make_sample()
    none = replace(
        sample.users,
        pair_offsets=np.zeros(1201, dtype=np.int64),
        categories=sample.users.categories[:0],
        k_uc=np.zeros((0, 0), dtype=np.uint8),
    )
    spec = structs.replace(sample.spec, category_dim=0, user_categories=0)
    sink = place.sink(spec)
    pairs = replace(sample.users, k_uc=np.zeros((len(sample.users.categories), 0), dtype=np.uint8))
    with pytest.raises(LayoutError, match="pairs without elements"):
        sink.write_users(pairs)
    sink.write_users(none)
    for items in item_slices(sample.items):
        sink.write_items(items)
    manifest = sink.seal()
    assert type(manifest).from_bytes(manifest.to_bytes(), GENERATION) == manifest
    sink.close()


def test_too_many_rows_are_refused_before_anything_is_written(place: Place) -> None:
    spec = structs.replace(make_sample().spec, items=2**32)
    with pytest.raises(LayoutError, match="4294967296 items are too many"):
        place.sink(spec)


def test_a_whole_sample_is_written_by_one_who_resumes_nothing(place: Place) -> None:
    sample = make_sample()
    with Publisher(place.storage).stage(sample.spec, max_versions=5, resume=True) as staged:
        assert not staged.resumed
        assert write_sample(staged, sample).totals.users == 1200
