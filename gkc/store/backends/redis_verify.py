"""Re-reading a whole generation in Redis: every marker, count and checksum, and the order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from gkc.errors import GenerationCorruptError, StoreError
from gkc.store.backends.redis_client import Command
from gkc.store.backends.redis_format import (
    ITEM_BLOCKS,
    ITEMS,
    MARKER_FIELD,
    USER_BUCKETS,
    USERS,
    GenerationKeys,
    add_checksums,
    bucket_checksum,
    bucket_numbers,
    unpack_items,
    unpack_marker,
)
from gkc.store.generation import GenerationManifest
from gkc.store.protocol import Progress, hash_ids

_BATCH_BYTES: Final = 4 << 20
_MOST_KEYS: Final = 64

Run = Callable[[str, Sequence[Command]], Awaitable[list[Any]]]
Missing = Callable[[str, str], Awaitable[StoreError]]


async def verify_generation(
    manifest: GenerationManifest,
    keys: GenerationKeys,
    run: Run,
    missing: Missing,
    progress: Progress,
) -> None:
    """Re-read all users and items of a generation, a few buckets or blocks at a time.

    Parameters
    ----------
    manifest : GenerationManifest
    keys : GenerationKeys
    run : callable
        Returns the answers to commands that read a generation.
    missing : callable
        Returns the error for something that is missing.
    progress : callable
        Told how many more rows are checked.

    Raises
    ------
    GenerationCorruptError
        At the first thing that differs; names it.
    """
    check = _Check(manifest)
    generation = manifest.generation
    for numbers in check.bucket_batches():
        answers = await run(generation, [("HGETALL", keys.bucket(n)) for n in numbers])
        for number, flat in zip(numbers, answers, strict=True):
            if not flat:
                raise await missing(generation, f"bucket {number} of its users is missing")
            progress(check.bucket(number, flat))
    for numbers in check.block_batches():
        answers = await run(generation, [("GET", keys.block(n)) for n in numbers])
        for number, raw in zip(numbers, answers, strict=True):
            if raw is None:
                raise await missing(generation, f"block {number} of its items is missing")
            progress(check.block(number, raw))
    check.finish()


class _Check:
    """What has been seen of a generation so far."""

    def __init__(self, manifest: GenerationManifest) -> None:
        self._manifest = manifest
        self._users = self._items = self._pairs = 0
        self._sums = {USERS: 0, ITEMS: 0}
        self._last_hash = -1

    def bucket_batches(self) -> Iterator[range]:
        return self._batches(self._manifest.checksums[USER_BUCKETS])

    def block_batches(self) -> Iterator[range]:
        return self._batches(self._manifest.checksums[ITEM_BLOCKS])

    def bucket(self, number: int, flat: Sequence[bytes]) -> int:
        """Check one bucket, the fields and values of a hash in turn; return its users."""
        spec = self._manifest.spec
        content = dict(zip(flat[::2], flat[1::2], strict=True))
        marker = content.pop(MARKER_FIELD, None)
        fields, records = list(content), list(content.values())
        try:
            if marker is None:
                raise ValueError("has no marker")
            users, checksum = unpack_marker(marker, self._manifest.generation)
            if len(fields) != users:
                raise ValueError(f"has {len(fields)} users instead of {users}")
            if bucket_checksum(fields, records) != checksum:
                raise ValueError("has another checksum than it was stored with")
            ids = np.frombuffer(b"".join(fields), dtype="<i8")
            buckets = bucket_numbers(hash_ids(ids), self._manifest.checksums[USER_BUCKETS])
            if (buckets != number).any():
                raise ValueError("holds users of another bucket")
        except ValueError as exc:
            raise self._corrupt(f"bucket {number} of its users {exc}") from exc
        pair_bytes = sum(map(len, records)) - users * spec.vector_stride
        self._pairs += pair_bytes // (8 + spec.category_stride)
        self._users += users
        self._sums[USERS] = add_checksums(self._sums[USERS], checksum)
        return users

    def block(self, number: int, raw: bytes) -> int:
        """Check one block; return its items."""
        try:
            block, crc32 = unpack_items(raw, self._manifest.spec.vector_stride)
            hashes = hash_ids(block.ids)
            if int(hashes[0]) <= self._last_hash:
                raise ValueError("does not follow the one before it")
        except ValueError as exc:
            raise self._corrupt(f"block {number} of its items {exc}") from exc
        self._last_hash = int(hashes[-1])
        self._items += len(block.ids)
        self._sums[ITEMS] = add_checksums(self._sums[ITEMS], crc32)
        return len(block.ids)

    def finish(self) -> None:
        """Compare what was seen to the manifest."""
        totals = self._manifest.totals
        found = (self._users, self._items, self._pairs)
        if found != (totals.users, totals.items, totals.user_categories):
            raise self._corrupt(
                f"{found[0]} users, {found[1]} items and {found[2]} pairs instead of "
                f"{totals.users}, {totals.items} and {totals.user_categories}"
            )
        for what, total in self._sums.items():
            if total != self._manifest.checksums[what]:
                raise self._corrupt(f"the checksum of its {what} differs")

    def _batches(self, keys: int) -> Iterator[range]:
        """Cut so many keys into batches of a bounded number of bytes."""
        totals = self._manifest.totals
        all_keys = sum(self._manifest.checksums[c] for c in (USER_BUCKETS, ITEM_BLOCKS))
        size = int(_BATCH_BYTES / max(totals.size_bytes / all_keys, 1.0))
        step = max(1, min(_MOST_KEYS, size))
        return (range(start, min(start + step, keys)) for start in range(0, keys, step))

    def _corrupt(self, what: str) -> GenerationCorruptError:
        return GenerationCorruptError(self._manifest.generation, what)
