"""Users' records, read over two connections: many bytes on one never hold up few on the other.

A read of more users than are about a mebibyte takes the second connection, a portion of so many
users at a time. Reads that overlap there have a portion each in turn, and no more than
`_PORTIONS_AT_ONCE` are under way together, so that neither the server nor the event loop is held
for more than some milliseconds at once, and what is on its way is bounded. How large records are is
known on average only: those of users with many more pairs than others take longer than foreseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from gkc.errors import GenerationCorruptError
from gkc.store.backends.redis.client import Command
from gkc.store.backends.redis.generation_reads import GenerationReads
from gkc.store.backends.redis.layout import (
    MARKER_FIELD,
    bucket_numbers,
    bucket_of,
    unpack_marker,
)
from gkc.store.backends.redis.pipe import ReadPipe
from gkc.store.codec import id_fields
from gkc.store.generation import GenerationManifest
from gkc.store.ids import hashes_of
from gkc.strings import Ids, StringIds

_FEW_BYTES: Final = 512 << 10
"""What overlaps waits for this long: a tenth of a millisecond for each of those before it."""
_PORTION_BYTES: Final = 1 << 20
"""A server puts together so much in half a millisecond, and a worker takes it in in one."""
_PORTIONS_AT_ONCE: Final = 2
"""The server prepares one while the other is taken in."""


class UserRecords:
    """Reads the records of users of one namespace.

    Parameters
    ----------
    store : str
        The store's URL, for messages.
    namespace : str
    few, many : ReadPipe
        For few bytes and for many.
    """

    def __init__(self, store: str, namespace: str, few: ReadPipe, many: ReadPipe) -> None:
        self._store = store
        self._namespace = namespace
        self._few, self._many = few, many
        self._portions = asyncio.Semaphore(_PORTIONS_AT_ONCE)  # whoever waits longest is next

    def read(
        self, manifest: GenerationManifest, users: Ids
    ) -> Coroutine[Any, Any, list[bytes | None]]:
        """Read the records of distinct users; None for unknown ones.

        Raises
        ------
        GenerationCorruptError, GenerationNotFoundError
            If a bucket is lost or another one, or the generation was deleted.
        StoreUnavailableError
            If the server refuses, or does not answer.
        """
        if len(users) == 1 or len(users) * manifest.spec.mean_record_bytes <= _FEW_BYTES:
            return self._read(self._few, manifest, users)
        return self._read_by_portions(manifest, users)

    async def _read_by_portions(
        self, manifest: GenerationManifest, users: Ids
    ) -> list[bytes | None]:
        at_once = max(1, _PORTION_BYTES // manifest.spec.mean_record_bytes)
        records: list[bytes | None] = []
        for start in range(0, len(users), at_once):
            records += await self._read_portion(manifest, users[start : start + at_once])
        return records

    async def _read_portion(self, manifest: GenerationManifest, users: Ids) -> list[bytes | None]:
        """Read a portion in its turn; it counts until it came, though nobody may wait for it."""
        await self._portions.acquire()
        portion = asyncio.create_task(self._read(self._many, manifest, users))
        portion.add_done_callback(lambda _: self._portions.release())
        return await asyncio.shield(portion)

    async def _read(
        self, pipe: ReadPipe, manifest: GenerationManifest, users: Ids
    ) -> list[bytes | None]:
        """Read the records of some users in one round trip."""
        reads = GenerationReads(pipe, self._store, self._namespace, manifest.generation)
        fields = id_fields(users)
        rows_of = _rows_of_buckets(users, manifest.layout.user_buckets)
        commands: list[Command] = [
            ("HMGET", reads.keys.bucket(bucket), MARKER_FIELD, *[fields[row] for row in rows])
            for bucket, rows in rows_of.items()
        ]
        answers = await reads.run(commands)
        records: list[bytes | None] = [None] * len(fields)
        for (bucket, rows), (marker, *values) in zip(rows_of.items(), answers, strict=True):
            if marker is None:
                raise await reads.missing(f"bucket {bucket} of its users is missing")
            try:
                unpack_marker(marker, manifest.generation, bucket)
            except ValueError as exc:
                what = f"bucket {bucket} of its users {exc}"
                raise GenerationCorruptError(manifest.generation, what) from exc
            for row, value in zip(rows, values, strict=True):
                records[row] = value
        return records


def _rows_of_buckets(users: Ids, user_buckets: int) -> dict[int, list[int]]:
    """Return the users, by position, of each bucket that any of them is in."""
    if len(users) == 1 and not isinstance(users, StringIds):
        # The usual request, for which numpy's calls cost more than the work.
        return {bucket_of(int(users[0]), user_buckets): [0]}
    rows_of: dict[int, list[int]] = {}
    for row, bucket in enumerate(bucket_numbers(hashes_of(users), user_buckets).tolist()):
        rows_of.setdefault(bucket, []).append(row)
    return rows_of
