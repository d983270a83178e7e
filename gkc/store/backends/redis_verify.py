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
_PIECE_BYTES: Final = 128 << 10
"""Of users read at once, which cost the server far more than blocks do: 2 ms for a whole bucket."""
_FIRST_AND_LAST_CURSOR: Final = b"0"
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
        names = [keys.bucket(n) for n in numbers]
        contents = await _read_hashes(run, generation, names, check.users_at_once)
        for number, flat in zip(numbers, contents, strict=True):
            if not flat:
                raise await missing(generation, f"bucket {number} of its users is missing")
            try:
                progress(check.bucket(number, flat))
            except GenerationCorruptError as exc:  # or it was deleted while it was read
                raise await missing(generation, exc.what) from exc
    for numbers in check.block_batches():
        answers = await run(generation, [("GET", keys.block(n)) for n in numbers])
        for number, raw in zip(numbers, answers, strict=True):
            if raw is None:
                raise await missing(generation, f"block {number} of its items is missing")
            progress(check.block(number, raw))
    check.finish()


async def _read_hashes(
    run: Run, generation: str, names: Sequence[str], at_once: int
) -> list[list[bytes]]:
    """Read whole hashes, fields and values in turn, each of them piece by piece.

    The server has time for others between two pieces; a piece has ``at_once`` fields, about, and
    may repeat some of an earlier one.
    """
    contents: list[list[bytes]] = [[] for _ in names]
    cursors = dict.fromkeys(range(len(names)), _FIRST_AND_LAST_CURSOR)
    while cursors:
        commands: list[Command] = [
            ("HSCAN", names[k], cursor, "COUNT", at_once) for k, cursor in cursors.items()
        ]
        answers = await run(generation, commands)
        for k, (cursor, piece) in zip(list(cursors), answers, strict=True):
            contents[k] += piece
            cursors[k] = cursor
        cursors = {k: c for k, c in cursors.items() if c != _FIRST_AND_LAST_CURSOR}
    return contents


class _Check:
    """What has been seen of a generation so far."""

    def __init__(self, manifest: GenerationManifest) -> None:
        self._manifest = manifest
        self._users = self._items = self._pairs = 0
        self._sums = {USERS: 0, ITEMS: 0}
        self._last_hash = -1

    @property
    def users_at_once(self) -> int:
        """So many users are about as many bytes as may be read at once of one bucket."""
        spec = self._manifest.spec
        pairs = spec.user_categories / max(spec.users, 1)
        user_bytes = spec.vector_stride + pairs * (8 + spec.category_stride)
        return max(1, int(_PIECE_BYTES / user_bytes))

    def bucket_batches(self) -> Iterator[range]:
        return self._batches(self._manifest.checksums[USER_BUCKETS], _PIECE_BYTES)

    def block_batches(self) -> Iterator[range]:
        return self._batches(self._manifest.checksums[ITEM_BLOCKS], _BATCH_BYTES)

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

    def _batches(self, keys: int, batch_bytes: int) -> Iterator[range]:
        """Cut so many keys into batches of a bounded number of bytes."""
        totals = self._manifest.totals
        all_keys = sum(self._manifest.checksums[c] for c in (USER_BUCKETS, ITEM_BLOCKS))
        size = int(batch_bytes / max(totals.size_bytes / all_keys, 1.0))
        step = max(1, min(_MOST_KEYS, size))
        return (range(start, min(start + step, keys)) for start in range(0, keys, step))

    def _corrupt(self, what: str) -> GenerationCorruptError:
        return GenerationCorruptError(self._manifest.generation, what)
