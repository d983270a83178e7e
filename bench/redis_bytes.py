"""Bytes that Redis keeps per byte of knowledge, and how fast a generation is loaded and deleted.

Run as ``python -m bench.redis_bytes [--url redis://HOST:PORT/0]``; without a URL it starts a server
of its own. The server must be idle: its memory is read before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import redis
import redis.asyncio
import uvloop

from bench.report import print_circumstances, spread
from gkc.store import (
    GenerationManifest,
    GenerationSpec,
    ItemBlock,
    UserBlock,
    encode_vectors,
    hash_ids,
    parse_store_url,
)
from gkc.store.backends.redis import RedisReader
from gkc.store.backends.redis_format import (
    MARKER_FIELD,
    USER_BUCKETS,
    GenerationKeys,
    bucket_numbers,
)
from gkc.store.backends.redis_storage import RedisStorage
from tests.redis_server import RedisServer, find_redis_server

Blocks = list[UserBlock] | list[ItemBlock]

BATCH_ROWS = 4096
PROBES = 2048
REPETITIONS = 9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an idle Redis instead of an own one")
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=500_000)
    parser.add_argument("--pairs", type=int, default=40, help="categories per user")
    parser.add_argument("--dim", type=int, default=64)
    arguments = parser.parse_args()
    print_circumstances("bench.redis_bytes")
    with _server(arguments.url) as url, tempfile.TemporaryDirectory() as mirror_dir:
        users = _spec(arguments.dim, arguments.users, 0, arguments.pairs)
        items = _spec(arguments.dim, 0, arguments.items, 0)
        for spec in (users, items):
            uvloop.run(_measure(url, spec, Path(mirror_dir)))


async def _measure(url: str, spec: GenerationSpec, mirror_dir: Path) -> None:
    where, namespace = parse_store_url(url), f"bench-{uuid.uuid4().hex[:8]}"
    storage, client = RedisStorage(where, namespace), redis.Redis.from_url(url)
    reader = RedisReader(where, namespace, mirror_dir=mirror_dir, timeout_ms=10_000)
    rows = spec.users or spec.items
    what = "users" if spec.users else "items"
    blocks: Blocks = list(_users(spec)) if spec.users else list(_items(spec))
    before = _used(client)
    started = time.perf_counter()
    manifest = _load(storage, spec, blocks)
    seconds = time.perf_counter() - started
    payload = _payload_bytes(spec)
    used = _used(client) - before
    print(f"{rows} {what} of {payload // rows} bytes, {spec.dim} wide, {spec.element_type}")
    megabytes = payload / 1e6
    print(f"  loaded            {rows / seconds:12,.0f} {what}/s, {megabytes / seconds:.0f} MB/s")
    print(f"  memory            {used / payload:12.3f} bytes per byte of payload")
    started = time.perf_counter()
    await reader.verify(manifest, lambda _: None)
    print(f"  verified          {rows / (time.perf_counter() - started):12,.0f} {what}/s")
    if spec.users:
        keys = GenerationKeys(namespace, manifest.generation)
        ids = np.concatenate([b.ids for b in blocks])
        async with redis.asyncio.Redis.from_url(url) as peer:
            await _time_fetches(reader, manifest, keys, ids, peer)
    else:
        started = time.perf_counter()
        (await reader.item_table(manifest, 0)).close()
        print(f"  mirrored          {rows / (time.perf_counter() - started):12,.0f} {what}/s")
    started = time.perf_counter()
    storage.delete(manifest.generation, spec.layout)
    print(f"  deleted by UNLINK {(time.perf_counter() - started) * 1e3:12.1f} ms")
    await reader.close()
    storage.close()
    client.close()


async def _time_fetches(
    reader: RedisReader,
    manifest: GenerationManifest,
    keys: GenerationKeys,
    ids: npt.NDArray[np.int64],
    peer: redis.asyncio.Redis,
) -> None:
    """Time reads of one user each, ours and redis.asyncio's of the same fields, in turns."""
    rng = np.random.default_rng(0)
    buckets = manifest.checksums[USER_BUCKETS]

    async def ours(user: np.int64) -> None:
        await reader.fetch_users(manifest, np.array([user], dtype=np.int64))

    async def plain(user: np.int64) -> None:
        (bucket,) = bucket_numbers(hash_ids(np.array([user], dtype=np.int64)), buckets)
        await peer.hmget(keys.bucket(int(bucket)), [MARKER_FIELD, user.tobytes()])

    for at_once in (1, 8, 64):
        rates: dict[str, list[float]] = {"fetch_users": [], "redis.asyncio HMGET": []}
        for _ in range(REPETITIONS):
            picks = rng.choice(ids, size=(PROBES // at_once, at_once))
            for name, ask in zip(rates, (ours, plain), strict=True):
                started = time.perf_counter()
                for row in picks:
                    await asyncio.gather(*(ask(user) for user in row))
                rates[name].append(picks.size / (time.perf_counter() - started))
        ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
        told = ", ".join(f"{name} {spread(r, 0)}" for name, r in rates.items())
        print(f"  {at_once:2d} reads at once   {told} per s, ratio {spread(ratios)}")


def _load(storage: RedisStorage, spec: GenerationSpec, blocks: Blocks) -> GenerationManifest:
    lease = storage.acquire_lease(spec.version, "bench")
    sink = storage.open_sink(f"{1:010d}-bench", spec, lease, resume=False)
    for block in blocks:
        if isinstance(block, UserBlock):
            sink.write_users(block)
        else:
            sink.write_items(block)
    manifest = sink.seal()
    sink.close()
    lease.release()
    return manifest


def _spec(dim: int, users: int, items: int, pairs: int) -> GenerationSpec:
    return GenerationSpec(
        version="bench",
        element_type="f16",
        dim=dim,
        category_dim=dim,
        users=users,
        items=items,
        user_categories=users * pairs,
        bundle="bench",
        fingerprint="bench",
    )


def _users(spec: GenerationSpec) -> Iterator[UserBlock]:
    rng = np.random.default_rng(1)
    pairs = spec.user_categories // spec.users
    for ids in _ids(spec.users):
        n = len(ids)
        yield UserBlock(
            ids=ids,
            k_u=encode_vectors(rng.standard_normal((n, spec.dim), dtype=np.float32), "f16"),
            pair_offsets=np.arange(n + 1, dtype=np.int64) * pairs,
            categories=np.tile(np.arange(pairs, dtype=np.int64), n),
            k_uc=rng.integers(0, 120, (n * pairs, spec.category_stride), dtype=np.uint8),
        )


def _items(spec: GenerationSpec) -> Iterator[ItemBlock]:
    rng = np.random.default_rng(2)
    for ids in _ids(spec.items):
        n = len(ids)
        yield ItemBlock(
            ids=ids,
            k_i=encode_vectors(rng.standard_normal((n, spec.dim), dtype=np.float32), "f16"),
            categories=rng.integers(0, 1000, n),
            has_category=np.ones(n, dtype=np.bool_),
        )


def _ids(count: int) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    ids = np.arange(count, dtype=np.int64)
    ids = ids[np.argsort(hash_ids(ids))]
    for start in range(0, count, BATCH_ROWS):
        yield ids[start : start + BATCH_ROWS]


def _payload_bytes(spec: GenerationSpec) -> int:
    pairs = spec.user_categories * (8 + spec.category_stride)
    return spec.users * spec.vector_stride + pairs + spec.items * (spec.vector_stride + 17)


def _used(client: redis.Redis) -> int:
    memory: dict[str, int] = client.info("memory")
    return memory["used_memory"]


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    binary = find_redis_server()
    if binary is None:
        raise SystemExit("no redis-server: install one, or name one by --url")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(binary, Path(folder))
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


if __name__ == "__main__":
    main()
