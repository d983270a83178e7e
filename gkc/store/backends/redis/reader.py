"""The Redis store's reading side. `layout` says how a generation lies in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from gkc.arrays import I64
from gkc.errors import GenerationCorruptError, StoreError
from gkc.store.backends.redis.chunk_source import ChunkSource
from gkc.store.backends.redis.client import (
    Command,
    WrongTypeError,
    connection_pool,
    get_bytes,
    is_wrong_type,
    no_catalogue,
)
from gkc.store.backends.redis.faults import as_store_errors
from gkc.store.backends.redis.layout import (
    MARKER_FIELD,
    GenerationKeys,
    bucket_numbers,
    bucket_of,
    catalogue_key,
    unpack_marker,
)
from gkc.store.backends.redis.pipe import ReadPipe
from gkc.store.backends.redis.ranges import ItemRanges
from gkc.store.backends.redis.verify import verify_users
from gkc.store.catalogue import Catalogue, missing, read_catalogue
from gkc.store.codec import id_fields
from gkc.store.daemon import in_daemon_thread
from gkc.store.generation import GenerationManifest, read_manifest
from gkc.store.ids import hash_ids
from gkc.store.mirror import MirrorDirectory, default_mirror_dir
from gkc.store.protocol import ItemTable, Progress
from gkc.store.table import MemoryItemTable
from gkc.store.urls import StoreUrl, require_namespace

CHUNK_TIMEOUT_SECONDS: Final = 5.0
"""Longest silence of the server while chunks are read: a service that ends waits for it."""


class RedisReader:
    """Reads one namespace of a Redis store (a ``KnowledgeReader``).

    Parameters
    ----------
    where : StoreUrl
    namespace : str
        Which of the centers that share the store.
    mirror_dir : Path, optional
        Where this host keeps mirrors of item tables.
    timeout_ms : int
        Longest wait for one answer.

    Raises
    ------
    StoreUrlError
        If the URL or the namespace cannot be read.
    """

    def __init__(
        self,
        where: StoreUrl,
        namespace: str,
        *,
        mirror_dir: Path | None = None,
        timeout_ms: int = 1000,
    ) -> None:
        self.store = where.shown
        require_namespace(self.store, namespace)
        self._where = where
        self._namespace = namespace
        self._pipe = ReadPipe(where, timeout_ms)
        self._mirrors = MirrorDirectory(mirror_dir or default_mirror_dir(), self.store, namespace)

    async def catalogue(self) -> Catalogue | None:
        """Read the catalogue; None if this namespace has never had one."""
        catalogue = read_catalogue(await self._raw_catalogue(), self.store)
        if catalogue is not None:
            self._mirrors.tidy(catalogue)
        return catalogue

    async def manifest(self, generation: str) -> GenerationManifest:
        """Read a generation's manifest."""
        (raw,) = await self._run(generation, [("GET", self._keys(generation).manifest)])
        if raw is None:
            raise await self._missing(generation, "its manifest is missing")
        return read_manifest(raw, generation)

    async def item_table(self, manifest: GenerationManifest, memory_bytes: int) -> ItemTable:
        """Map this host's mirror of a generation's items, building it first if there is none."""

        def copy() -> ItemTable:
            with self._chunks(manifest.generation) as chunks:
                return self._mirrors.open(manifest, chunks.read, memory_bytes)

        return await in_daemon_thread(copy)

    async def fetch_users(
        self, manifest: GenerationManifest, users: I64
    ) -> Sequence[bytes | memoryview | None]:
        """Read the records of distinct users in one round trip; None for unknown ones."""
        keys = self._keys(manifest.generation)
        fields = id_fields(users)
        rows_of = _rows_of_buckets(users, manifest.layout.user_buckets)
        commands: list[Command] = [
            ("HMGET", keys.bucket(bucket), MARKER_FIELD, *[fields[row] for row in rows])
            for bucket, rows in rows_of.items()
        ]
        answers = await self._run(manifest.generation, commands)
        records: list[bytes | None] = [None] * len(fields)
        for (bucket, rows), (marker, *values) in zip(rows_of.items(), answers, strict=True):
            if marker is None:
                raise await self._missing(
                    manifest.generation, f"bucket {bucket} of its users is missing"
                )
            try:
                unpack_marker(marker, manifest.generation, bucket)
            except ValueError as exc:
                what = f"bucket {bucket} of its users {exc}"
                raise GenerationCorruptError(manifest.generation, what) from exc
            for row, value in zip(rows, values, strict=True):
                records[row] = value
        return records

    async def items_of(self, manifest: GenerationManifest, items: I64) -> MemoryItemTable:
        """Read a few distinct items by ranges, as a table of those that are known."""
        keys = self._keys(manifest.generation)
        return await ItemRanges(manifest, keys, self._run, self._missing).read(items)

    async def verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        """Re-read all of a generation: counts, checksums, markers, order."""
        if await self.manifest(manifest.generation) != manifest:
            raise GenerationCorruptError(manifest.generation, "its manifest is another one")
        keys = self._keys(manifest.generation)
        await verify_users(manifest, keys, self._run, self._missing, progress)

        def verify_items() -> None:
            with self._chunks(manifest.generation) as chunks:
                chunks.verify(manifest, progress)

        await asyncio.to_thread(verify_items)

    async def close(self) -> None:
        """Close connections, and stop building mirrors."""
        self._mirrors.stop()
        await self._pipe.close()

    def _keys(self, generation: str) -> GenerationKeys:
        return GenerationKeys(self._namespace, generation)

    async def _raw_catalogue(self) -> bytes | None:
        key = catalogue_key(self._namespace)
        with as_store_errors(self.store):
            (answer,) = await self._pipe.run([("GET", key)])
            if isinstance(answer, redis.ResponseError):
                if not is_wrong_type(answer):
                    raise answer
                (kind,) = await self._pipe.run([("TYPE", key)])
                raise no_catalogue(self.store, WrongTypeError(key, kind)) from answer
        raw: bytes | None = answer
        return raw

    async def _run(self, generation: str, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands that read a generation's data."""
        if not commands:
            return []
        with as_store_errors(self.store):
            answers = await self._pipe.run(commands)
            for command, answer in zip(commands, answers, strict=True):
                if isinstance(answer, redis.ResponseError):
                    if is_wrong_type(answer):
                        what = f"key {command[1]!s} holds another type"
                        raise GenerationCorruptError(generation, what) from answer
                    raise answer
        return answers

    async def _missing(self, generation: str, what: str) -> StoreError:
        """Return the error for missing data: damage, unless the generation was deleted."""
        catalogue, manifest = await self._run(
            generation,
            [
                ("GET", catalogue_key(self._namespace)),
                ("EXISTS", self._keys(generation).manifest),
            ],
        )
        return missing(generation, what, read_catalogue(catalogue, self.store), bool(manifest))

    @contextmanager
    def _chunks(self, generation: str) -> Iterator[ChunkSource]:
        """Give the chunks of a generation, over a connection of their own."""
        pool = connection_pool(self._where, CHUNK_TIMEOUT_SECONDS)
        keys = self._keys(generation)

        def missing_now(client: redis.Redis, what: str) -> StoreError:
            raw = get_bytes(client, catalogue_key(self._namespace))
            has_manifest = bool(client.exists(keys.manifest))
            return missing(generation, what, read_catalogue(raw, self.store), has_manifest)

        with as_store_errors(self.store):
            try:
                yield ChunkSource(pool, keys, missing_now)
            finally:
                pool.disconnect()


def _rows_of_buckets(users: I64, user_buckets: int) -> dict[int, list[int]]:
    """Return the users, by position, of each bucket that any of them is in."""
    if len(users) == 1:  # the usual request, for which numpy's calls cost more than the work
        return {bucket_of(int(users[0]), user_buckets): [0]}
    found: dict[int, list[int]] = {}
    for row, bucket in enumerate(bucket_numbers(hash_ids(users), user_buckets).tolist()):
        found.setdefault(bucket, []).append(row)
    return found
