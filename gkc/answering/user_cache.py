"""Records of the users asked for lately, so that they are not read from the store again.

A generation never changes, so what is here cannot become stale; what nobody asks for any more falls
out, the records of former generations like those of former users. Those asked for more than once
have most of the room: a few questions for very many users push out each other's, and not theirs.
Only records that were checked are kept, and not that somebody has none: what was damaged may be
whole when it is read again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

import numpy as np

from gkc.answering.store_watch import StoreWatch
from gkc.center.plan import Records
from gkc.errors import LayoutError
from gkc.store import GenerationManifest, joined
from gkc.strings import Ids

ENTRY_BYTES: Final = 320
"""What an entry takes besides its record: key, id, objects' headers, its place in the table."""
_SHARE_ASKED_AGAIN: Final = 0.75
"""Of all bytes, at most: the rest is for what may still be asked for again."""

_Key = tuple[str, int | bytes]


class Count(Protocol):
    """A number that grows."""

    def inc(self, amount: float) -> None:
        """Add to it."""
        ...


class UserReader(Protocol):
    """Where users' records are read: a store, or this cache around it."""

    async def fetch_users(self, manifest: GenerationManifest, users: Ids) -> Records:
        """Read the records of n distinct users; None for unknown ones."""
        ...


class UserCache:
    """A `UserReader` around another one that keeps what it read.

    Of the records asked for once the oldest falls out first; of those asked for again, the one
    whose last use is the oldest becomes the newest of the others.

    Parameters
    ----------
    reader : UserReader
    max_bytes : int
        Most that all entries take together, `ENTRY_BYTES` for each included.
    watch : StoreWatch
        Whether to wait for that reader.
    hits, misses : Count
        Of the records asked for, those that were here and those that were not.
    """

    def __init__(
        self, reader: UserReader, max_bytes: int, watch: StoreWatch, hits: Count, misses: Count
    ) -> None:
        self._reader = reader
        self._watch = watch
        self._max_bytes = max_bytes
        self._hits, self._misses = hits, misses
        self._asked_once: OrderedDict[_Key, bytes] = OrderedDict()
        self._asked_again: OrderedDict[_Key, bytes] = OrderedDict()
        self._again_bytes = 0
        self.used_bytes = 0

    async def fetch_users(self, manifest: GenerationManifest, users: Ids) -> Records:
        """Return the records of distinct users, and read those that are not here in one go."""
        generation = manifest.generation
        keys = [(generation, user) for user in users.tolist()]
        records: list[bytes | None] = [self._use(key) for key in keys]
        missing = [row for row, record in enumerate(records) if record is None]
        self._hits.inc(len(keys) - len(missing))
        self._misses.inc(len(missing))
        if missing:
            self._watch.require_users(len(missing), len(keys))
            asked = users[np.array(missing, dtype=np.int64)]
            fetched = await self._reader.fetch_users(manifest, asked)
            read = [None if record is None else bytes(record) for record in fetched]
            is_whole = _are_whole(manifest, asked, read)
            for row, record in zip(missing, read, strict=True):
                records[row] = record
                if is_whole and record is not None:
                    self._keep(keys[row], record)
        return records

    def _use(self, key: _Key) -> bytes | None:
        """Return a record that is here and take note that it is asked for again."""
        record = self._asked_again.get(key)
        if record is not None:
            self._asked_again.move_to_end(key)
            return record
        record = self._asked_once.pop(key, None)
        if record is not None:
            self._asked_again[key] = record
            self._again_bytes += _size(record)
            while self._again_bytes > _SHARE_ASKED_AGAIN * self._max_bytes:
                former, its_record = self._asked_again.popitem(last=False)
                self._again_bytes -= _size(its_record)
                self._asked_once[former] = its_record
        return record

    def _keep(self, key: _Key, record: bytes) -> None:
        if key in self._asked_once or key in self._asked_again:
            return  # another request read it meanwhile
        self._asked_once[key] = record
        self.used_bytes += _size(record)
        while self.used_bytes > self._max_bytes:
            _, oldest = self._asked_once.popitem(last=False)
            self.used_bytes -= _size(oldest)


def _are_whole(manifest: GenerationManifest, users: Ids, records: Records) -> bool:
    """Tell whether all of some users' records are as they should be."""
    try:
        manifest.records.check_joined(users, *joined(records))
    except LayoutError:
        return False  # whoever asked finds out by itself
    return True


def _size(record: bytes) -> int:
    return ENTRY_BYTES + len(record)
