"""Chunks of the items table, read one after the other over a connection of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import redis
from redis.connection import ConnectionPool

from gkc.errors import GenerationCorruptError, RecordError, StoreError
from gkc.store.backends.redis.client import is_wrong_type
from gkc.store.backends.redis.layout import GenerationKeys
from gkc.store.chunks import Chunks
from gkc.store.generation import GenerationManifest
from gkc.store.protocol import Progress
from gkc.store.table import read_header
from gkc.store.table_check import check_table
from gkc.store.table_format import PAGE_BYTES

_AHEAD: Final = 2
"""Chunks asked for at once: the server copies them one after the other, while nobody else is
answered."""
_CHUNKS_KEPT: Final = 10
"""As many chunks as a table has sections are read at the same time."""


class ChunkSource:
    """Reads the chunks of one generation.

    Parameters
    ----------
    pool : ConnectionPool
    keys : GenerationKeys
    missing : callable
        Returns the error for something that is missing.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        keys: GenerationKeys,
        missing: Callable[[redis.Redis, str], StoreError],
    ) -> None:
        self._client = redis.Redis(connection_pool=pool)
        self._keys = keys
        self._missing = missing

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
                    raise self._missing(self._client, f"chunk {number} of its items is missing")
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
            header = read_header(read(0, PAGE_BYTES), "items", manifest.generation)
            if header.shape != manifest.spec.item_shape:
                raise RecordError("is of another size than its manifest says")
            check_table(header, read, progress)
        except (RecordError, ValueError) as exc:
            what = f"the table of its items {exc}"
            raise GenerationCorruptError(manifest.generation, what) from exc
