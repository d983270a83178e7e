"""Writing a generation into Redis: users bucket by bucket, the items table chunk by chunk."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import redis
from redis.connection import ConnectionPool

from gkc.errors import GenerationCorruptError, RecordError
from gkc.store.backends.redis.buckets import UserBuckets
from gkc.store.backends.redis.client import Command, WritePipe, get_bytes, in_batches
from gkc.store.backends.redis.faults import as_store_errors
from gkc.store.backends.redis.layout import USERS, GenerationKeys
from gkc.store.chunks import ChunkSizes
from gkc.store.codec import ItemBlock, UserBlock
from gkc.store.generation import GenerationSpec, Totals
from gkc.store.sink import BucketProgress, Finished, Lease, WriterProgress
from gkc.store.table_format import PAGE_BYTES
from gkc.store.table_writer import ItemTableWriter

StoreChunk = Callable[[int, bytes], None]


class ChunkTarget:
    """The items table being written in chunks, each stored when it is complete (a ``TableTarget``).

    The chunk with the header is the last one. So many chunks are in memory as there are sections,
    and the header's.

    Parameters
    ----------
    generation : str
    spec : GenerationSpec
    store_chunk : callable
        Stores the bytes of a chunk.
    """

    def __init__(self, generation: str, spec: GenerationSpec, store_chunk: StoreChunk) -> None:
        self._generation = generation
        self._store_chunk = store_chunk
        self.sizes = ChunkSizes(spec.item_shape, spec.layout)
        self.piece_bytes = self.sizes.chunk_bytes
        lengths = spec.item_shape.lengths()
        self._offsets = spec.item_shape.offsets()
        self._missing = np.zeros(self.sizes.count, dtype=np.int64)
        for offset, length in [(0, PAGE_BYTES), *((self._offsets[n], lengths[n]) for n in lengths)]:
            self._count(offset, length, 1)
        self._crc32s = np.zeros(self.sizes.count, dtype="<u4")
        self._open: dict[int, bytearray] = {}

    @property
    def crc32s(self) -> bytes:
        """CRC-32 of each chunk as it was stored last, uint32 each."""
        return self._crc32s.tobytes()

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes into their chunks, and store those that are complete."""
        done = 0
        for number, at, length in self.sizes.parts(offset, len(data)):
            chunk = self._open.get(number)
            if chunk is None:
                chunk = self._open[number] = bytearray(self.sizes.size(number))
            chunk[at : at + length] = data[done : done + length]
            done += length
            self._missing[number] -= length
            if not self._missing[number]:
                self._store(number, bytes(self._open.pop(number)))

    def sync(self) -> None:
        """Do nothing: chunks are durable when the server has confirmed them."""

    def store_open(self) -> None:
        """Store the chunks that are not complete, too."""
        for number, chunk in self._open.items():
            self._store(number, bytes(chunk))

    def restore(
        self,
        progress: WriterProgress,
        sizes: Callable[[Sequence[int]], Sequence[int]],
        read: Callable[[int], bytes | None],
    ) -> None:
        """Go on where an interrupted writer was.

        Parameters
        ----------
        progress : WriterProgress
        sizes : callable
            Returns how long some chunks are that are stored, 0 if one is not there.
        read : callable
            Reads a chunk.

        Raises
        ------
        RecordError
            If the note is none of this table.
        GenerationCorruptError
            If a chunk is missing or damaged.
        """
        if len(progress.chunk_crc32s) != self._crc32s.nbytes:
            raise RecordError(f"$.chunk_crc32s: are not those of {self.sizes.count} chunks")
        self._crc32s = np.frombuffer(progress.chunk_crc32s, dtype="<u4").copy()
        before = self._missing.copy()
        written = [
            (self._offsets[name], section.length)
            for name, section in progress.items.sections.items()
            if name in self._offsets
        ]
        for offset, length in written:
            self._count(offset, length, -1)
        begun = np.flatnonzero(self._missing < before).tolist()
        for number, size in zip(begun, sizes(begun), strict=True):
            if size != self.sizes.size(number):
                what = f"chunk {number} of its items is missing"
                raise GenerationCorruptError(self._generation, what)
            if self._missing[number]:
                self._open[number] = self._reopen(number, read(number) or b"", written)

    def _reopen(self, number: int, raw: bytes, written: list[tuple[int, int]]) -> bytearray:
        """Return what is known to be stored of a chunk, zeros for the rest."""
        chunk = bytearray(self.sizes.size(number))
        for offset, length in written:
            for other, at, size in self.sizes.parts(offset, length):
                if other == number:
                    chunk[at : at + size] = raw[at : at + size]
        if len(chunk) != self.sizes.size(number) or zlib.crc32(chunk) != self._crc32s[number]:
            raise GenerationCorruptError(
                self._generation, f"chunk {number} of its items is damaged"
            )
        return chunk

    def _store(self, number: int, chunk: bytes) -> None:
        self._crc32s[number] = zlib.crc32(chunk)
        self._store_chunk(number, chunk)

    def _count(self, offset: int, length: int, sign: int) -> None:
        for number, _, size in self.sizes.parts(offset, length):
            self._missing[number] += sign * size


class RedisWriter:
    """Writes the keys of one generation (a ``StagedStore``).

    Parameters
    ----------
    pool : ConnectionPool
    store : str
        The store's URL, for messages.
    keys : GenerationKeys
    generation : str
    spec : GenerationSpec
    lease : Lease
        Checked before every write.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        store: str,
        keys: GenerationKeys,
        generation: str,
        spec: GenerationSpec,
        lease: Lease,
    ) -> None:
        self._client = redis.Redis(connection_pool=pool)
        self._store = store
        self._keys = keys
        self._generation = generation
        self._spec = spec
        self._lease = lease
        self._pipe = WritePipe(pool)

    @property
    def written_bytes(self) -> int:
        """Bytes taken so far."""
        return self._items.written_bytes + self._users.size_bytes

    def errors(self) -> AbstractContextManager[None]:
        """Turn what the client library raises into StoreUnavailableError."""
        return as_store_errors(self._store)

    def read_manifest(self) -> bytes | None:
        """Read the manifest of a writer that ended, None if there is none."""
        return get_bytes(self._client, self._keys.manifest)

    def read_progress(self) -> bytes | None:
        """Read what an interrupted writer noted, None if it noted nothing."""
        return get_bytes(self._client, self._keys.progress)

    def open(self, progress: WriterProgress | None, categories: Sequence[bytes]) -> None:
        """Begin to write, or go on where an interrupted writer was."""
        spec, generation = self._spec, self._generation
        users = progress.users if progress else None
        if users is not None and not isinstance(users, BucketProgress):
            raise RecordError("$.users: is not that of buckets")
        self._chunks = ChunkTarget(generation, spec, self._send_chunk)
        self._items = ItemTableWriter(
            self._chunks,
            generation,
            spec.item_shape,
            progress.items if progress else None,
            categories,
        )
        self._users = UserBuckets(generation, spec, self._keys, self._send, users)
        if progress:
            self._chunks.restore(
                progress,
                self._lengths,
                lambda number: get_bytes(self._client, self._keys.chunk(number)),
            )

    def append_items(self, block: ItemBlock) -> None:
        """Take items."""
        self._items.append(block)

    def append_users(self, block: UserBlock, records: Sequence[bytes]) -> None:
        """Take users and their records."""
        self._users.append(block, records)

    def checkpoint(self, totals: Totals) -> None:
        """Store what was taken, then note what a later writer needs to go on."""
        items, users = self._items.sync(), self._users.flush()
        self._chunks.store_open()
        self._pipe.drain()
        progress = WriterProgress(totals, items, users, self._chunks.crc32s)
        self._send(("SET", self._keys.progress, progress.to_bytes()))
        self._pipe.drain()

    def finish(self) -> Finished:
        """Store what is left, the chunk with the header last."""
        self._users.finish()
        self._items.finish()
        self._pipe.drain()
        sizes = self._chunks.sizes
        names = sum(len(self._keys.chunk(number)) for number in range(sizes.count))
        return Finished(
            size_bytes=self._users.size_bytes + names + sizes.size_bytes,
            checksums={USERS: self._users.checksum},
            chunk_crc32s=self._chunks.crc32s,
        )

    def write_manifest(self, raw: bytes) -> None:
        """Store the manifest; then nothing is left of the note of progress."""
        self._send(("SET", self._keys.manifest, raw))
        self._pipe.drain()
        self._send(("UNLINK", self._keys.progress))
        self._pipe.drain()

    def close(self) -> None:
        """Give the connection back; what is stored stays."""
        self._pipe.close()

    def _send_chunk(self, number: int, chunk: bytes) -> None:
        self._send(("SET", self._keys.chunk(number), chunk))

    def _send(self, command: Command) -> None:
        self._lease.check(self._generation)
        size_bytes = sum(len(part) for part in command[1:] if not isinstance(part, int))
        self._pipe.send(command, size_bytes)

    def _lengths(self, numbers: Sequence[int]) -> Sequence[int]:
        lengths: list[Any] = []
        for some in in_batches(numbers):
            pipeline = self._client.pipeline(transaction=False)
            for number in some:
                pipeline.strlen(self._keys.chunk(number))
            lengths += pipeline.execute(raise_on_error=False)
        return [length if isinstance(length, int) else 0 for length in lengths]
