"""Reading all users of a generation in Redis: every record, marker, count and checksum."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from gkc.errors import GenerationCorruptError, LayoutError
from gkc.store.backends.redis.client import Command
from gkc.store.backends.redis.generation_reads import GenerationReads
from gkc.store.backends.redis.layout import (
    MARKER_FIELD,
    USERS,
    add_checksums,
    bucket_numbers,
    sum_of,
    unpack_marker,
)
from gkc.store.codec import ID_BYTES
from gkc.store.generation import GenerationManifest
from gkc.store.ids import hashes_of
from gkc.store.protocol import Progress
from gkc.strings import Ids, StringIds

_PIECE_BYTES: Final = 128 << 10
"""Of users read at once: a whole bucket would cost the server 2 ms."""
_FIRST_AND_LAST_CURSOR: Final = b"0"
_MOST_KEYS: Final = 64


async def verify_users(
    manifest: GenerationManifest, reads: GenerationReads, progress: Progress
) -> None:
    """Re-read all users of a generation, a few buckets at a time.

    Parameters
    ----------
    manifest : GenerationManifest
    reads : GenerationReads
    progress : callable
        Told how many more rows are checked.

    Raises
    ------
    GenerationCorruptError
        At the first thing that differs; names it.
    """
    async for users in read_users(manifest, reads):
        progress(len(users))


async def read_users(
    manifest: GenerationManifest, reads: GenerationReads
) -> AsyncIterator[Mapping[bytes, bytes]]:
    """Yield the users of each bucket, by id field their records, all of them checked.

    Raises
    ------
    GenerationCorruptError
        At the first thing that differs; names it.
    """
    check = _Check(manifest)
    for numbers in check.bucket_batches():
        names = [reads.keys.bucket(number) for number in numbers]
        contents = await _read_hashes(reads, names, check.users_at_once)
        for number, flat in zip(numbers, contents, strict=True):
            if not flat:
                raise await reads.missing(f"bucket {number} of its users is missing")
            try:
                users = check.bucket(number, flat)
            except GenerationCorruptError as exc:  # or it was deleted while it was read
                raise await reads.missing(exc.what) from exc
            yield users
    check.finish()


async def _read_hashes(
    reads: GenerationReads, names: Sequence[str], at_once: int
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
        answers = await reads.run(commands)
        for k, (cursor, piece) in zip(list(cursors), answers, strict=True):
            contents[k] += piece
            cursors[k] = cursor
        cursors = {k: c for k, c in cursors.items() if c != _FIRST_AND_LAST_CURSOR}
    return contents


class _Check:
    """What has been seen of a generation so far."""

    def __init__(self, manifest: GenerationManifest) -> None:
        self._manifest = manifest
        self._records = manifest.records
        self._users = self._pairs = self._sum = 0

    @property
    def users_at_once(self) -> int:
        """So many users are about as many bytes as may be read at once of one bucket."""
        return max(1, _PIECE_BYTES // self._manifest.spec.mean_record_bytes)

    def bucket_batches(self) -> Iterator[range]:
        """Cut the buckets into batches of a bounded number of bytes."""
        spec, buckets = self._manifest.spec, self._manifest.layout.user_buckets
        step = max(1, min(_MOST_KEYS, self.users_at_once * buckets // max(spec.users, 1)))
        return (range(start, min(start + step, buckets)) for start in range(0, buckets, step))

    def bucket(self, number: int, flat: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Check one bucket, the fields and values of a hash in turn; return its users' records."""
        content = dict(zip(flat[::2], flat[1::2], strict=True))
        marker = content.pop(MARKER_FIELD, None)
        fields, records = list(content), list(content.values())
        try:
            if marker is None:
                raise ValueError("has no marker")
            users, checksum = unpack_marker(marker, self._manifest.generation, number)
            if len(fields) != users:
                raise ValueError(f"has {len(fields)} users instead of {users}")
            self._check_place(number, fields)
            for field, record in content.items():
                self._check_record(field, record)
            if sum_of(records) != checksum:
                raise ValueError("has another checksum than it was stored with")
        except ValueError as exc:
            raise self._corrupt(f"bucket {number} of its users {exc}") from exc
        self._users += users
        self._sum = add_checksums(self._sum, checksum)
        return content

    def _check_place(self, number: int, fields: Sequence[bytes]) -> None:
        buckets = bucket_numbers(hashes_of(self._ids(fields)), self._manifest.layout.user_buckets)
        if (buckets != number).any():
            raise ValueError("holds users of another bucket")

    def _ids(self, fields: Sequence[bytes]) -> Ids:
        if self._manifest.spec.user_id_type == "string":
            ids = StringIds.of(fields)
            if ids.first_unfit() is None:
                return ids
        elif all(len(field) == ID_BYTES for field in fields):
            return np.frombuffer(b"".join(fields), dtype="<i8")
        raise ValueError("holds a field that is no id")

    def _check_record(self, field: bytes, record: bytes) -> None:
        try:
            self._pairs += self._records.check(field, record)
        except LayoutError as exc:
            is_string = self._manifest.spec.user_id_type == "string"
            user = field.decode() if is_string else int.from_bytes(field, "little", signed=True)
            raise ValueError(f"holds a record of user {user} that {exc}") from exc

    def finish(self) -> None:
        """Compare what was seen to the manifest."""
        totals = self._manifest.totals
        if (self._users, self._pairs) != (totals.users, totals.user_categories):
            raise self._corrupt(
                f"{self._users} users and {self._pairs} pairs instead of "
                f"{totals.users} and {totals.user_categories}"
            )
        if self._sum != self._manifest.checksums.get(USERS):
            raise self._corrupt("the checksum of its users differs")

    def _corrupt(self, what: str) -> GenerationCorruptError:
        return GenerationCorruptError(self._manifest.generation, what)
