"""Chunks of the items table, read one after the other over a connection of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

import redis

from gkc.errors import GenerationCorruptError, RecordError, StoreError
from gkc.store.backends.redis.client import connection_pool, get_bytes, is_wrong_type
from gkc.store.backends.redis.faults import as_store_errors
from gkc.store.backends.redis.layout import GenerationKeys, catalogue_key
from gkc.store.catalogue import missing, read_catalogue
from gkc.store.chunks import Chunks
from gkc.store.generation import GenerationManifest
from gkc.store.protocol import Progress
from gkc.store.table_check import check_table
from gkc.store.table_file import read_header
from gkc.store.table_format import PAGE_BYTES
from gkc.store.urls import StoreUrl

_AHEAD: Final = 2
"""Chunks asked for at once: the server copies them one after the other, while nobody else is
answered."""
_CHUNK_TIMEOUT_SECONDS: Final = 5.0
"""Longest silence of the server while chunks are read: a service that ends waits for it."""
_CHUNKS_KEPT: Final = 10
"""As many chunks as a table has sections are read at the same time."""


@contextmanager
def open_chunks(where: StoreUrl, namespace: str, generation: str) -> Iterator[ChunkSource]:
    """Give the chunks of a generation, over a connection of their own.

    Raises
    ------
    StoreUnavailableError
        For what the client library raises within the block.
    """
    pool = connection_pool(where, _CHUNK_TIMEOUT_SECONDS)
    with as_store_errors(where.shown):
        try:
            yield ChunkSource(redis.Redis(connection_pool=pool), where.shown, namespace, generation)
        finally:
            pool.disconnect()


class ChunkSource:
    """Reads the chunks of one generation.

    Parameters
    ----------
    client : Redis
    store : str
        The store's URL, for messages.
    namespace, generation : str
    """

    def __init__(self, client: redis.Redis, store: str, namespace: str, generation: str) -> None:
        self._client = client
        self._store = store
        self._catalogue_key = catalogue_key(namespace)
        self._generation = generation
        self._keys = GenerationKeys(namespace, generation)

    def read(self, numbers: Sequence[int]) -> Iterator[bytes]:
        """Yield some chunks, as they lie in the store.

        Raises
        ------
        GenerationCorruptError, GenerationNotFoundError
            If one is missing.
        redis.RedisError
            If the server cannot be asked.
        """
        for start in range(0, len(numbers), _AHEAD):
            some = numbers[start : start + _AHEAD]
            pipeline = self._client.pipeline(transaction=False)
            for number in some:
                pipeline.get(self._keys.chunk(number))
            answers = pipeline.execute(raise_on_error=False)
            for number, raw in zip(some, answers, strict=True):
                if isinstance(raw, redis.RedisError) and not is_wrong_type(raw):
                    raise raw
                if not isinstance(raw, bytes):
                    raise self._missing(f"chunk {number} of its items is missing")
                yield raw

    def verify(self, manifest: GenerationManifest, progress: Progress) -> None:
        """Re-read the whole table: every chunk's checksum, order, pointers.

        Raises
        ------
        GenerationCorruptError, GenerationNotFoundError
            At the first thing that is missing or differs; names it.
        redis.RedisError
            If the server cannot be asked.
        """
        chunks = Chunks(manifest)

        @lru_cache(_CHUNKS_KEPT)
        def chunk(number: int) -> bytes:
            (raw,) = self.read([number])
            chunks.check(number, raw)
            return raw

        def read(offset: int, size: int) -> bytes:
            parts = chunks.parts(offset, min(size, chunks.size_bytes - offset))
            return b"".join(chunk(number)[at : at + length] for number, at, length in parts)

        try:
            header = read_header(read(0, PAGE_BYTES), "items", self._generation)
            if header.shape != manifest.spec.item_shape:
                raise RecordError("is of another size than its manifest says")
            check_table(header, read, progress)
        except (RecordError, ValueError) as exc:
            what = f"the table of its items {exc}"
            raise GenerationCorruptError(self._generation, what) from exc

    def _missing(self, what: str) -> StoreError:
        """Return the error for missing data: damage, unless the generation was deleted."""
        catalogue = read_catalogue(get_bytes(self._client, self._catalogue_key), self._store)
        has_manifest = bool(self._client.exists(self._keys.manifest))
        return missing(self._generation, what, catalogue, has_manifest)
