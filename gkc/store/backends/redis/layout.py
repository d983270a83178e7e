"""How a generation lies in Redis: key names and user buckets. Pure functions, no I/O.

::

    gkc:NAMESPACE:catalogue         the catalogue
    gkc:NAMESPACE:lease:VERSION     who writes a version, JSON; expires
    gkc:NAMESPACE:barrier           written to learn how far replicas are; expires
    gkc:NAMESPACE:g:GENERATION:m    manifest
                              :p    how much is stored, while it is written
                              :u:N  bucket N of users: a hash, id (8 bytes) -> packed record
                              :i:N  chunk N of the items table, the very bytes of the table file

There are no braces in the names: in a Cluster they would put many keys into one slot. Every bucket,
an empty one too, has a marker, so that a bucket that was lost is told from one that is empty.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from gkc.arrays import I64, U64
from gkc.store.generation import GenerationLayout
from gkc.store.ids import hash_id

MARKER_FIELD: Final = b""
"""The field of a bucket's marker; no id has it, for ids are at least a byte long."""

USERS: Final = "users"
"""What a manifest keeps among its checksums: the sum of the checksums of its buckets."""

_SUM_MASK: Final = (1 << 63) - 1
_MARKER: Final = struct.Struct("<IIQ")
_CRC_BYTES: Final = 4


def catalogue_key(namespace: str) -> str:
    """Return the key of a namespace's catalogue."""
    return f"gkc:{namespace}:catalogue"


def lease_key(namespace: str, version: str) -> str:
    """Return the key of a version's writer lease."""
    return f"gkc:{namespace}:lease:{version}"


def barrier_key(namespace: str) -> str:
    """Return the key that is written to learn how far replicas are."""
    return f"gkc:{namespace}:barrier"


class GenerationKeys:
    """The names of one generation's keys.

    Parameters
    ----------
    namespace, generation : str
    """

    def __init__(self, namespace: str, generation: str) -> None:
        self._prefix = f"gkc:{namespace}:g:{generation}"

    @property
    def manifest(self) -> str:
        """The key of its manifest."""
        return f"{self._prefix}:m"

    @property
    def progress(self) -> str:
        """The key of what tells how much is stored."""
        return f"{self._prefix}:p"

    def bucket(self, number: int) -> str:
        """Return the key of a bucket of users."""
        return f"{self._prefix}:u:{number}"

    def chunk(self, number: int) -> str:
        """Return the key of a chunk of the items table."""
        return f"{self._prefix}:i:{number}"

    def all_but_manifest(self, layout: GenerationLayout) -> Iterator[str]:
        """Yield every other name that the generation may have, also one of format 1."""
        yield self.progress
        yield f"{self._prefix}:i"  # where format 1 kept the beginnings of its blocks of items
        yield from map(self.chunk, range(layout.item_chunks))
        yield from map(self.bucket, range(layout.user_buckets))


def bucket_numbers(hashes: U64, user_buckets: int) -> I64:
    """Return the bucket of each user; it grows with the hash, so a bucket's users come together.

    Parameters
    ----------
    hashes : ndarray, shape (n,), uint64
        What `hash_ids` gives.
    user_buckets : int
        How many buckets the generation has, below 2^32.

    Returns
    -------
    ndarray, shape (n,), int64
    """
    high = hashes >> np.uint64(32)
    return (high * np.uint64(user_buckets) >> np.uint64(32)).view(np.int64)


def bucket_of(user: int, user_buckets: int) -> int:
    """Return what `bucket_numbers` gives for one user's id."""
    return (hash_id(user) >> 32) * user_buckets >> 32


def pack_marker(generation: str, bucket: int, users: int, checksum: int) -> bytes:
    """Return the marker of a bucket: its number, how many users, their checksum, whose it is."""
    return _MARKER.pack(bucket, users, checksum) + generation.encode()


def unpack_marker(marker: bytes, generation: str, bucket: int) -> tuple[int, int]:
    """Return the number of users and the checksum that a marker states.

    Raises
    ------
    ValueError
        If it is not the marker of this bucket.
    """
    if marker[_MARKER.size :] != generation.encode():
        raise ValueError("has the marker of another generation")
    number, users, checksum = _MARKER.unpack_from(marker)
    if number != bucket:
        raise ValueError(f"has the marker of bucket {number}")
    return users, checksum


def sum_of(records: Sequence[bytes]) -> int:
    """Return the checksum of some users, which does not depend on their order.

    A record begins with its own CRC-32, over whose it is as well.
    """
    return sum(int.from_bytes(record[:_CRC_BYTES], "little") for record in records) & _SUM_MASK


def add_checksums(total: int, checksum: int) -> int:
    """Add a checksum to the sum of others."""
    return (total + checksum) & _SUM_MASK
