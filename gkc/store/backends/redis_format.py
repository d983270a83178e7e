"""How a generation lies in Redis: key names, user buckets, item blocks. Pure functions, no I/O.

::

    gkc:NAMESPACE:catalogue         the catalogue, JSON
    gkc:NAMESPACE:lease:VERSION     who writes a version, JSON; expires
    gkc:NAMESPACE:barrier           written to learn how far replicas are; expires
    gkc:NAMESPACE:g:GENERATION:m    manifest, JSON with its checksum
                              :p    how much is stored, while it is written
                              :u:N  bucket N of users: a hash, id (8 bytes) -> packed record
                              :i:N  block N of items
                              :i    directory: the hash of each block's first item, uint64

There are no braces in the names: in a Cluster they would put many keys into one slot. Every bucket,
an empty one too, has a marker, so that a bucket that was lost is told from one that is empty.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from gkc.arrays import I64, U64
from gkc.store.generation import GenerationLayout
from gkc.store.protocol import ItemBlock, hash_id, hash_ids

MARKER_FIELD: Final = b""
"""The field of a bucket's marker; no id has it, for ids are 8 bytes."""

USER_BUCKETS: Final = "user_buckets"
ITEM_BLOCKS: Final = "item_blocks"
USERS: Final = "users"
ITEMS: Final = "items"
DIRECTORY: Final = "directory"
"""What a manifest keeps among its checksums: the counts, so that a generation stays readable when
the rule that chose them changes; the sums of its buckets' and blocks' checksums; the directory's
CRC-32."""

BLOCK_HEADER_BYTES: Final = 8
_SUM_MASK: Final = (1 << 64) - 1
_MARKER: Final = struct.Struct("<IQ")
_BLOCK_HEADER: Final = struct.Struct("<II")
_ITEM_BYTES: Final = 17  # id, category, whether it has one


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
        self.manifest = f"{self._prefix}:m"
        self.progress = f"{self._prefix}:p"
        self.directory = f"{self._prefix}:i"

    def bucket(self, number: int) -> str:
        """Return the key of a bucket of users."""
        return f"{self._prefix}:u:{number}"

    def block(self, number: int) -> str:
        """Return the key of a block of items."""
        return f"{self._prefix}:i:{number}"

    def all_but_manifest(self, layout: GenerationLayout) -> Iterator[str]:
        """Yield every other name that the generation may have."""
        yield self.progress
        yield self.directory
        for number in range(layout.item_blocks):
            yield self.block(number)
        for number in range(layout.user_buckets):
            yield self.bucket(number)


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


def id_fields(ids: I64) -> list[bytes]:
    """Return the hash field of each user: its id, 8 bytes, little-endian."""
    raw = np.ascontiguousarray(ids, dtype="<i8").tobytes()
    return [raw[k : k + 8] for k in range(0, len(raw), 8)]


def pack_marker(generation: str, users: int, checksum: int) -> bytes:
    """Return the marker of a bucket: how many users, their checksum, whose bucket."""
    return _MARKER.pack(users, checksum) + generation.encode()


def unpack_marker(marker: bytes, generation: str) -> tuple[int, int]:
    """Return the number of users and the checksum that a marker states.

    Raises
    ------
    ValueError
        If it is not a marker of this generation.
    """
    if marker[_MARKER.size :] != generation.encode():
        raise ValueError("has the marker of another generation")
    users, checksum = _MARKER.unpack_from(marker)
    return users, checksum


def bucket_checksum(fields: Sequence[bytes], records: Sequence[bytes]) -> int:
    """Return the checksum of a bucket's users, which does not depend on their order."""
    pairs = zip(fields, records, strict=True)
    return sum(zlib.crc32(record, zlib.crc32(field)) for field, record in pairs)


def add_checksums(total: int, checksum: int) -> int:
    """Add a checksum to the sum of others, in 64 bits."""
    return (total + checksum) & _SUM_MASK


def pack_items(block: ItemBlock) -> tuple[bytes, int]:
    """Return a block of items as it is stored, and its CRC-32."""
    body = b"".join(
        (
            np.ascontiguousarray(block.ids, dtype="<i8").tobytes(),
            np.ascontiguousarray(block.categories, dtype="<i8").tobytes(),
            block.has_category.astype(np.uint8).tobytes(),
            np.ascontiguousarray(block.k_i).tobytes(),
        )
    )
    crc32 = zlib.crc32(body)
    return _BLOCK_HEADER.pack(len(block.ids), crc32) + body, crc32


def unpack_items(raw: bytes, stride: int) -> tuple[ItemBlock, int]:
    """Return the items of a stored block, as views of it, and its CRC-32.

    Raises
    ------
    ValueError
        If the block is damaged, or its items are out of order.
    """
    if len(raw) < BLOCK_HEADER_BYTES:
        raise ValueError(f"has only {len(raw)} bytes")
    count, crc32 = _BLOCK_HEADER.unpack_from(raw)
    if len(raw) != BLOCK_HEADER_BYTES + count * (_ITEM_BYTES + stride):
        raise ValueError(f"has {len(raw)} bytes, which do not make {count} items")
    if zlib.crc32(memoryview(raw)[BLOCK_HEADER_BYTES:]) != crc32:
        raise ValueError("has another checksum than it was stored with")
    at = BLOCK_HEADER_BYTES + 16 * count
    block = ItemBlock(
        ids=np.frombuffer(raw, dtype="<i8", count=count, offset=BLOCK_HEADER_BYTES),
        categories=np.frombuffer(raw, dtype="<i8", count=count, offset=at - 8 * count),
        has_category=np.frombuffer(raw, dtype=np.bool_, count=count, offset=at),
        k_i=np.frombuffer(raw, dtype=np.uint8, offset=at + count).reshape(count, stride),
    )
    hashes = hash_ids(block.ids)
    if not count or not (hashes[1:] > hashes[:-1]).all():
        raise ValueError("is empty or out of order")
    return block, crc32
