"""The cache of users' records: the same records, bounded, and no crowd pushes out its regulars."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.answering.store_watch import StoreWatch
from gkc.answering.user_cache import ENTRY_BYTES, UserCache
from gkc.center.plan import Records
from gkc.errors import StoreUnavailableError
from gkc.http.metrics import Metrics
from gkc.store import RecordCodec, UserBlock, encode_vectors
from gkc.store.codec import record_bytes

DIM = 24
RECORD_BYTES = record_bytes(4 * DIM, 0, 0)
WATCH = StoreWatch("redis://anywhere", 300.0)
Asked = tuple[str, list[int]]


class Reader:
    """Has a record of every user but the negative ones, and writes down who was read."""

    def __init__(self) -> None:
        self.read: list[tuple[str, int]] = []
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None
        self.damaged: set[int] = set()

    async def fetch_users(self, manifest: Any, users: Any) -> Records:
        self.read += [(manifest.generation, user) for user in users.tolist()]
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        generation = manifest.generation
        return [
            record_of(generation, user + 1 if user in self.damaged else user)
            for user in users.tolist()
        ]


def codec(generation: str) -> RecordCodec:
    return RecordCodec(generation, "f32", DIM, 0)


def record_of(generation: str, user: int) -> memoryview | None:
    ids, none = np.array([user], dtype=np.int64), np.zeros(0, dtype=np.int64)
    k_u = encode_vectors(np.full((1, DIM), user, dtype=np.float32), "f32")
    pairs = none, np.zeros((0, 0), dtype=np.uint8)
    (record,) = codec(generation).pack(UserBlock(ids, k_u, np.zeros(2, dtype=np.int64), *pairs))
    return None if user < 0 else memoryview(record)


async def ask(cache: UserCache, generation: str, users: list[int]) -> list[bytes | None]:
    manifest: Any = SimpleNamespace(generation=generation, records=codec(generation))
    found = await cache.fetch_users(manifest, np.array(users, dtype=np.int64))
    return [None if record is None else bytes(record) for record in found]


def expected(generation: str, users: list[int]) -> list[bytes | None]:
    records = [record_of(generation, user) for user in users]
    return [None if record is None else bytes(record) for record in records]


SIZE = ENTRY_BYTES + RECORD_BYTES


asked = st.lists(
    st.tuples(
        st.sampled_from(["1-a", "2-b"]),
        st.lists(st.integers(-2, 5), min_size=1, max_size=4, unique=True),
    ),
    max_size=20,
)


@given(requests=asked, entries=st.integers(0, 6))
def test_records_are_those_of_the_store_whatever_was_asked_before(
    requests: list[Asked], entries: int
) -> None:
    reader, most = Reader(), entries * SIZE
    cache = UserCache(reader, most, WATCH, *Metrics().user_cache())

    async def run() -> None:
        for generation, users in requests:
            assert await ask(cache, generation, users) == expected(generation, users)
            assert cache.used_bytes <= most
        read, known = len(reader.read), len({(g, u) for g, us in requests for u in us if u >= 0})
        if requests and known <= entries:
            await ask(cache, *requests[-1])
            assert all(user < 0 for _, user in reader.read[read:])

    asyncio.run(run())


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def cache(reader: Reader) -> UserCache:
    """A cache of four records."""
    return UserCache(reader, 4 * SIZE, WATCH, *Metrics().user_cache())


async def held(reader: Reader, cache: UserCache, users: range) -> list[int]:
    """Return which of some users are read without the store."""
    reader.read.clear()
    for user in users:
        await ask(cache, "g", [user])
    return [user for user in users if ("g", user) not in reader.read]


async def test_of_those_asked_for_once_the_oldest_falls_out(
    reader: Reader, cache: UserCache
) -> None:
    await ask(cache, "g", [0, 1, 2, 3, 4, 5])
    assert cache.used_bytes == 4 * SIZE
    assert await held(reader, cache, range(5, -1, -1)) == [5, 4, 3, 2]


async def test_a_crowd_pushes_out_nobody_who_is_asked_for_again(
    reader: Reader, cache: UserCache
) -> None:
    for _ in range(2):
        await ask(cache, "g", [0, 1, 2])
    await ask(cache, "g", list(range(10, 100)))
    assert await held(reader, cache, range(3)) == [0, 1, 2]


async def test_who_was_asked_for_again_long_ago_falls_out(reader: Reader, cache: UserCache) -> None:
    for user in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5):
        await ask(cache, "g", [user])
    assert await held(reader, cache, range(3, 6)) == [3, 4, 5]
    assert await held(reader, cache, range(2)) == []


async def test_two_requests_that_miss_at_the_same_time_leave_one_entry() -> None:
    reader = Reader()
    reader.gate = asyncio.Event()
    cache = UserCache(reader, 10_000, WATCH, *Metrics().user_cache())
    both = asyncio.gather(ask(cache, "g", [1]), ask(cache, "g", [1, 2]))
    await asyncio.sleep(0)
    reader.gate.set()
    assert list(await both) == [expected("g", [1]), expected("g", [1, 2])]
    assert cache.used_bytes == 2 * SIZE


async def test_a_read_that_fails_leaves_what_was_there() -> None:
    reader = Reader()
    cache = UserCache(reader, 10_000, WATCH, *Metrics().user_cache())
    await ask(cache, "g", [1])
    reader.failure = StoreUnavailableError("x", "refused")
    with pytest.raises(StoreUnavailableError):
        await ask(cache, "g", [1, 2])
    assert await ask(cache, "g", [1]) == expected("g", [1])
    assert cache.used_bytes == SIZE


async def test_a_record_that_is_another_user_s_is_handed_on_and_not_kept() -> None:
    reader = Reader()
    cache = UserCache(reader, 10_000, WATCH, *Metrics().user_cache())
    reader.damaged = {2}
    assert await ask(cache, "g", [1, 2]) == expected("g", [1, 3])
    assert cache.used_bytes == 0
    reader.damaged = set()
    assert await ask(cache, "g", [1, 2]) == expected("g", [1, 2])
    assert cache.used_bytes == 2 * SIZE


async def test_hits_and_misses_are_counted() -> None:
    metrics = Metrics()
    cache = UserCache(Reader(), 10_000, WATCH, *metrics.user_cache())
    await ask(cache, "g", [1, 2])
    await ask(cache, "g", [2, 3])
    text = metrics.render(None, True).decode()
    assert 'gkc_user_cache_records_total{result="hit"} 1.0' in text
    assert 'gkc_user_cache_records_total{result="miss"} 3.0' in text
