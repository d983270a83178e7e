"""The Redis store's reading side. `redis_format` says how a generation lies in Redis."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import redis

from gkc.arrays import I64, U64, Bools
from gkc.errors import (
    CatalogueLostError,
    GenerationCorruptError,
    GenerationNotFoundError,
    LayoutError,
    StoreError,
)
from gkc.store.backends.redis_client import (
    WRITE_TIMEOUT_SECONDS,
    Command,
    connection_pool,
)
from gkc.store.backends.redis_faults import as_store_errors
from gkc.store.backends.redis_format import (
    DIRECTORY,
    ITEM_BLOCKS,
    MARKER_FIELD,
    USER_BUCKETS,
    GenerationKeys,
    bucket_numbers,
    bucket_of,
    catalogue_key,
    id_fields,
    unpack_items,
    unpack_marker,
)
from gkc.store.backends.redis_pipe import ReadPipe
from gkc.store.backends.redis_verify import verify_generation
from gkc.store.catalogue import Catalogue
from gkc.store.generation import GenerationManifest
from gkc.store.mirror import MirrorDirectory, default_mirror_dir
from gkc.store.protocol import ItemBlock, ItemTable, Progress, hash_ids
from gkc.store.sealed import unsealed_json
from gkc.store.urls import StoreUrl, require_namespace

_BLOCKS_AT_ONCE: Final = 32


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
        raw = await self._get(catalogue_key(self._namespace))
        catalogue = parse_catalogue(raw, self.store)
        if catalogue is not None:
            self._mirrors.tidy(catalogue)
        return catalogue

    async def manifest(self, generation: str) -> GenerationManifest:
        """Read a generation's manifest."""
        raw = await self._get(self._keys(generation).manifest)
        if raw is None:
            raise await self._missing(generation, "its manifest is missing")
        return parse_manifest(raw, generation)

    async def item_table(self, manifest: GenerationManifest, memory_bytes: int) -> ItemTable:
        """Map this host's mirror of a generation's items, building it first if there is none."""
        return await asyncio.to_thread(
            self._mirrors.open, manifest, lambda: self._read_blocks(manifest), memory_bytes
        )

    async def fetch_users(
        self, manifest: GenerationManifest, users: I64
    ) -> Sequence[bytes | memoryview | None]:
        """Read the records of distinct users in one round trip; None for unknown ones."""
        keys = self._keys(manifest.generation)
        fields = id_fields(users)
        rows_of = _rows_of_buckets(users, manifest.checksums[USER_BUCKETS])
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
                unpack_marker(marker, manifest.generation)
            except ValueError as exc:
                what = f"bucket {bucket} of its users {exc}"
                raise GenerationCorruptError(manifest.generation, what) from exc
            for row, value in zip(rows, values, strict=True):
                records[row] = value
        return records

    async def fetch_items(
        self, manifest: GenerationManifest, items: I64
    ) -> tuple[ItemBlock, Bools]:
        """Read distinct items from their blocks; zeros and False for unknown ones."""
        hashes = hash_ids(items)
        firsts = await self._directory(manifest)
        blocks = np.searchsorted(firsts, hashes, side="right") - 1
        found = ItemBlock(
            ids=items,
            k_i=np.zeros((len(items), manifest.spec.vector_stride), dtype=np.uint8),
            categories=np.zeros(len(items), dtype=np.int64),
            has_category=np.zeros(len(items), dtype=np.bool_),
        )
        known = np.zeros(len(items), dtype=np.bool_)
        for numbers in _in_batches(np.unique(blocks[blocks >= 0]).tolist()):
            for number, block in await self._fetch_blocks(manifest, numbers):
                rows = np.flatnonzero(blocks == number)
                stored = hash_ids(block.ids)
                if stored[0] != firsts[number]:
                    what = f"block {number} of its items is not the one that its directory names"
                    raise GenerationCorruptError(manifest.generation, what)
                at = np.minimum(np.searchsorted(stored, hashes[rows]), len(stored) - 1)
                there = stored[at] == hashes[rows]
                rows, at = rows[there], at[there]
                known[rows] = True
                found.k_i[rows] = block.k_i[at]
                found.categories[rows] = block.categories[at]
                found.has_category[rows] = block.has_category[at]
        return found, known

    async def verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        """Re-read all of a generation: counts, checksums, markers, order."""
        if await self.manifest(manifest.generation) != manifest:
            raise GenerationCorruptError(manifest.generation, "its manifest is another one")
        await self._directory(manifest)
        keys = self._keys(manifest.generation)
        await verify_generation(manifest, keys, self._run, self._missing, progress)

    async def close(self) -> None:
        """Close connections, and stop building mirrors."""
        self._mirrors.stop()
        await self._pipe.close()

    def _keys(self, generation: str) -> GenerationKeys:
        return GenerationKeys(self._namespace, generation)

    async def _get(self, key: str) -> bytes | None:
        with as_store_errors(self.store):
            (answer,) = await self._pipe.run([("GET", key)])
            if isinstance(answer, redis.ResponseError) and not _is_wrong_type(answer):
                raise answer
        return b"" if isinstance(answer, redis.ResponseError) else answer

    async def _run(self, generation: str, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands that read a generation's data."""
        if not commands:
            return []
        with as_store_errors(self.store):
            answers = await self._pipe.run(commands)
            for command, answer in zip(commands, answers, strict=True):
                if isinstance(answer, redis.ResponseError):
                    if _is_wrong_type(answer):
                        what = f"key {command[1]!s} holds another type"
                        raise GenerationCorruptError(generation, what) from answer
                    raise answer
        return answers

    async def _directory(self, manifest: GenerationManifest) -> U64:
        """Read the hash of each block's first item, shape (blocks,), uint64."""
        (raw,) = await self._run(
            manifest.generation, [("GET", self._keys(manifest.generation).directory)]
        )
        if raw is None:
            raise await self._missing(manifest.generation, "the directory of its items is missing")
        return parse_directory(raw, manifest)

    async def _fetch_blocks(
        self, manifest: GenerationManifest, numbers: Sequence[int]
    ) -> list[tuple[int, ItemBlock]]:
        keys, found = self._keys(manifest.generation), []
        commands: list[Command] = [("GET", keys.block(number)) for number in numbers]
        answers = await self._run(manifest.generation, commands)
        for number, raw in zip(numbers, answers, strict=True):
            if raw is None:
                raise await self._missing(manifest.generation, missing_block(number))
            found.append((number, parse_block(raw, manifest, number)))
        return found

    async def _missing(self, generation: str, what: str) -> StoreError:
        """Return the error for missing data: damage, unless the generation was deleted."""
        catalogue, manifest = await self._run(
            generation,
            [
                ("GET", catalogue_key(self._namespace)),
                ("EXISTS", self._keys(generation).manifest),
            ],
        )
        return missing(generation, what, parse_catalogue(catalogue, self.store), bool(manifest))

    def _read_blocks(self, manifest: GenerationManifest) -> Iterator[ItemBlock]:
        """Read all items, block by block, over a connection of its own; for a thread."""
        generation, keys = manifest.generation, self._keys(manifest.generation)
        client = redis.Redis(connection_pool=connection_pool(self._where, WRITE_TIMEOUT_SECONDS))
        with client, as_store_errors(self.store):
            for numbers in _in_batches(range(manifest.checksums[ITEM_BLOCKS])):
                pipeline = client.pipeline(transaction=False)
                for number in numbers:
                    pipeline.get(keys.block(number))
                answers = pipeline.execute(raise_on_error=False)
                for number, raw in zip(numbers, answers, strict=True):
                    if isinstance(raw, redis.RedisError) and not _is_wrong_type(raw):
                        raise raw
                    if not isinstance(raw, bytes):
                        stored: Any = client.get(catalogue_key(self._namespace))
                        catalogue = parse_catalogue(stored, self.store)
                        has_manifest = bool(client.exists(keys.manifest))
                        what = missing_block(number)
                        raise missing(generation, what, catalogue, has_manifest)
                    yield parse_block(raw, manifest, number)


def _rows_of_buckets(users: I64, user_buckets: int) -> dict[int, list[int]]:
    """Return the users, by position, of each bucket that any of them is in."""
    if len(users) == 1:  # the usual request, for which numpy's calls cost more than the work
        return {bucket_of(int(users[0]), user_buckets): [0]}
    found: dict[int, list[int]] = {}
    for row, bucket in enumerate(bucket_numbers(hash_ids(users), user_buckets).tolist()):
        found.setdefault(bucket, []).append(row)
    return found


def parse_catalogue(raw: bytes | None, store: str) -> Catalogue | None:
    """Return the catalogue from its stored form, None if there is none.

    Raises
    ------
    CatalogueLostError
        If it is no catalogue.
    """
    if raw is None:
        return None
    try:
        return Catalogue.from_bytes(raw)
    except LayoutError as exc:
        raise CatalogueLostError(store, str(exc)) from exc


def parse_manifest(raw: bytes, generation: str) -> GenerationManifest:
    """Return the manifest from its stored form.

    Raises
    ------
    GenerationCorruptError
        If it is damaged, or another generation's.
    """
    try:
        manifest = GenerationManifest.from_json(unsealed_json(raw))
    except (ValueError, LayoutError) as exc:
        raise GenerationCorruptError(generation, f"its manifest: {exc}") from exc
    if manifest.generation != generation:
        raise GenerationCorruptError(generation, f"its manifest is {manifest.generation}'s")
    return manifest


def parse_directory(raw: bytes, manifest: GenerationManifest) -> U64:
    """Return the hash of each block's first item, shape (blocks,), uint64.

    Raises
    ------
    GenerationCorruptError
        If the directory is not the one that was stored.
    """
    if zlib.crc32(raw) != manifest.checksums[DIRECTORY]:
        raise GenerationCorruptError(manifest.generation, "the directory of its items is damaged")
    return np.frombuffer(raw, dtype="<u8")


def parse_block(raw: bytes, manifest: GenerationManifest, number: int) -> ItemBlock:
    """Return a block of items.

    Raises
    ------
    GenerationCorruptError
        If it is damaged.
    """
    try:
        return unpack_items(raw, manifest.spec.vector_stride)[0]
    except ValueError as exc:
        what = f"block {number} of its items {exc}"
        raise GenerationCorruptError(manifest.generation, what) from exc


def missing(
    generation: str, what: str, catalogue: Catalogue | None, has_manifest: bool
) -> StoreError:
    """Return the error for missing data.

    It is damage while the catalogue needs the generation or its manifest is there, for a deletion
    takes the manifest first; else the generation was deleted.
    """
    needed = catalogue.in_state("staging", "published") if catalogue else {}
    if has_manifest or generation in needed:
        return GenerationCorruptError(generation, what)
    return GenerationNotFoundError(generation)


def missing_block(number: int) -> str:
    """Say that a block is missing."""
    return f"block {number} of its items is missing"


def _in_batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), _BLOCKS_AT_ONCE):
        yield numbers[start : start + _BLOCKS_AT_ONCE]


def _is_wrong_type(answer: redis.RedisError) -> bool:
    return str(answer).startswith("WRONGTYPE")
