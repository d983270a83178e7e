"""Users on their way into Redis: into hash buckets, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from gkc.store.backends.redis.client import Command
from gkc.store.backends.redis.layout import (
    MARKER_FIELD,
    GenerationKeys,
    add_checksums,
    bucket_numbers,
    pack_marker,
    sum_of,
)
from gkc.store.codec import UserBlock
from gkc.store.generation import GenerationSpec
from gkc.store.sink import BucketProgress
from gkc.store.table_writer import OrderProgress, RowOrder

Send = Callable[[Command], None]
"""Sends a command that stores something."""

_COMMAND_BYTES: Final = 128 << 10
"""Of users stored at once, about: a whole bucket would keep the server from its readers for
milliseconds."""


class UserBuckets:
    """Fills buckets as users come; the marker of each is stored when it is full.

    Parameters
    ----------
    generation : str
    spec : GenerationSpec
    keys : GenerationKeys
    send : callable
    progress : BucketProgress, optional
        What an interrupted writer stored.

    Attributes
    ----------
    size_bytes : int
        Of keys, fields and values.
    checksum : int
        Of all full buckets.
    """

    def __init__(
        self,
        generation: str,
        spec: GenerationSpec,
        keys: GenerationKeys,
        send: Send,
        progress: BucketProgress | None,
    ) -> None:
        self._generation = generation
        self._keys = keys
        self._send = send
        self._buckets = spec.layout.user_buckets
        done = progress or BucketProgress(OrderProgress())
        self._order = RowOrder("users", spec.users, spec.user_id_type, done.order)
        self._bucket = done.bucket
        self._bucket_users = done.bucket_users
        self._bucket_checksum = done.bucket_checksum
        self.checksum = done.checksum
        self.size_bytes = done.size_bytes
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def append(self, block: UserBlock, records: Sequence[bytes]) -> None:
        """Take users; raises LayoutError if they are out of order or too many."""
        hashes = self._order.check(block.ids, block.names)
        if not len(hashes):
            return
        fields = block.fields
        buckets = bucket_numbers(hashes, self._buckets)
        cuts = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
        for start, end in pairwise(cuts):
            self._finish_until(int(buckets[start]))
            self._add(fields[start:end], records[start:end])
        self._order.take(hashes, block.names)

    def flush(self) -> BucketProgress:
        """Send what is held back, and return what a later writer needs to go on after it."""
        self._send_pending()
        return BucketProgress(
            self._order.progress,
            self._bucket,
            self._bucket_users,
            self._bucket_checksum,
            self.checksum,
            self.size_bytes,
        )

    def finish(self) -> None:
        """Send what is held back, and the empty buckets after it."""
        self._order.require_all()
        self._finish_until(self._buckets)

    def _add(self, fields: Sequence[bytes], records: Sequence[bytes]) -> None:
        for field, record in zip(fields, records, strict=True):
            self._pending += (field, record)
            size_bytes = len(field) + len(record)
            self._pending_bytes += size_bytes
            self.size_bytes += size_bytes
            if self._pending_bytes >= _COMMAND_BYTES:
                self._send_pending()
        self._bucket_users += len(fields)
        self._bucket_checksum = add_checksums(self._bucket_checksum, sum_of(records))

    def _finish_until(self, bucket: int) -> None:
        """Finish all buckets before this one."""
        while self._bucket < bucket:
            self._send_pending()
            key = self._keys.bucket(self._bucket)
            marker = pack_marker(
                self._generation, self._bucket, self._bucket_users, self._bucket_checksum
            )
            # The marker last: a bucket that was not finished has none.
            self._send(("HSET", key, MARKER_FIELD, marker))
            self.size_bytes += len(key) + len(marker)
            self.checksum = add_checksums(self.checksum, self._bucket_checksum)
            self._bucket += 1
            self._bucket_users = self._bucket_checksum = 0

    def _send_pending(self) -> None:
        if self._pending:
            self._send(("HSET", self._keys.bucket(self._bucket), *self._pending))
            self._pending, self._pending_bytes = [], 0
