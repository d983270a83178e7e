"""Rows on their way into Redis: users gathered into buckets, items cut into blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Final

import numpy as np

from gkc.arrays import I64, U64
from gkc.errors import LayoutError
from gkc.store.backends.redis_client import Command
from gkc.store.backends.redis_format import (
    MARKER_FIELD,
    GenerationKeys,
    add_checksums,
    bucket_checksum,
    bucket_numbers,
    id_fields,
    pack_items,
    pack_marker,
)
from gkc.store.codec import UserBlock, largest_magnitude, pack_records
from gkc.store.generation import GenerationSpec, Totals
from gkc.store.protocol import ItemBlock, hash_ids

Send = Callable[[Command], int]
"""Sends a command that stores something and returns its bytes."""

_COMMAND_BYTES: Final = 128 << 10
"""Of users stored at once, about: a whole bucket would keep the server from its readers for
milliseconds."""


class _Rows:
    """One kind of rows on its way into the store.

    Attributes
    ----------
    keys_stored : int
        Buckets or blocks that are complete and were sent.
    totals : Totals
        Counts and bytes of what was sent; largest values of all that was given.
    """

    def __init__(
        self, spec: GenerationSpec, keys: GenerationKeys, send: Send, progress: dict[str, Any]
    ) -> None:
        self._spec = spec
        self._keys = keys
        self._send = send
        self.keys_stored: int = progress.get("keys_stored", 0)
        self.checksum: int = progress.get("checksum", 0)
        self.totals = Totals(**progress.get("totals", {}))
        self._last_sent: int = progress.get("last_sent", -1)
        self._last_given = self._last_sent

    def progress(self) -> dict[str, Any]:
        """Return what a later writer needs to go on after the last row that was sent."""
        return {
            "keys_stored": self.keys_stored,
            "checksum": self.checksum,
            "totals": asdict(self.totals),
            "last_sent": self._last_sent,
        }

    def _take_order(self, hashes: U64, what: str) -> None:
        if int(hashes[0]) <= self._last_given or not (hashes[1:] > hashes[:-1]).all():
            raise LayoutError(f"{what} must come in ascending order of hash_ids, each once")
        self._last_given = int(hashes[-1])


class UserRows(_Rows):
    """Fills buckets one after the other; only the last one is held back."""

    def __init__(
        self,
        spec: GenerationSpec,
        keys: GenerationKeys,
        send: Send,
        progress: dict[str, Any],
        generation: str,
    ) -> None:
        super().__init__(spec, keys, send, progress)
        self._generation = generation
        self._buckets = spec.layout.user_buckets
        # Users of the bucket after the last one that is stored.
        self._ids: list[I64] = []
        self._fields: list[bytes] = []
        self._records: list[bytes] = []

    def write(self, block: UserBlock) -> None:
        """Take users; raises LayoutError if they are out of order, too many, of another width."""
        spec = self._spec
        widths = (block.k_u.shape[1], block.k_uc.shape[1])
        if widths != (spec.vector_stride, spec.category_stride):
            raise LayoutError(f"users of {widths[0]} and pairs of {widths[1]} bytes do not fit")
        if not len(block.ids):
            return
        hashes = hash_ids(block.ids)
        self._take_order(hashes, "users")
        largest_user = largest_magnitude(block.k_u, spec.element_type)
        largest_pair = largest_magnitude(block.k_uc, spec.element_type)
        self.totals = self.totals.plus(
            Totals(largest_user=largest_user, largest_user_category=largest_pair)
        )
        fields, records = id_fields(block.ids), pack_records(block)
        buckets = bucket_numbers(hashes, self._buckets)
        cuts = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
        for start, end in pairwise(cuts):
            self._store_until(int(buckets[start]))
            self._ids.append(block.ids[start:end])
            self._fields += fields[start:end]
            self._records += records[start:end]

    def finish(self) -> None:
        """Send what is held back, and the empty buckets after it."""
        self._store_until(self._buckets)

    def _store_until(self, bucket: int) -> None:
        """Store all buckets before this one; what is held back belongs to the first of them."""
        while self.keys_stored < bucket:
            self._store_bucket(self._fields, self._records)
            if self._ids:
                self._last_sent = int(hash_ids(self._ids[-1][-1:])[0])
            self._ids, self._fields, self._records = [], [], []

    def _store_bucket(self, fields: list[bytes], records: list[bytes]) -> None:
        spec = self._spec
        if self.totals.users + len(fields) > spec.users:
            raise LayoutError(f"more than the {spec.users} users that were promised")
        checksum = bucket_checksum(fields, records)
        marker = pack_marker(self._generation, len(fields), checksum)
        key = self._keys.bucket(self.keys_stored)
        # The marker last: a bucket that was not finished has none.
        parts = [*_parts(fields, records), [MARKER_FIELD, marker]]
        size_bytes = len(key) + sum(self._send(("HSET", key, *part)) - len(key) for part in parts)
        pair_bytes = sum(map(len, records)) - len(records) * spec.vector_stride
        self.totals = self.totals.plus(
            Totals(
                users=len(fields),
                user_categories=pair_bytes // (8 + spec.category_stride),
                size_bytes=size_bytes,
            )
        )
        self.checksum = add_checksums(self.checksum, checksum)
        self.keys_stored += 1


class ItemRows(_Rows):
    """Cuts items into blocks; only the last one is held back.

    Attributes
    ----------
    firsts : list of int
        The hash of each block's first item.
    """

    def __init__(
        self,
        spec: GenerationSpec,
        keys: GenerationKeys,
        send: Send,
        progress: dict[str, Any],
        firsts: list[int],
    ) -> None:
        super().__init__(spec, keys, send, progress)
        self.firsts = firsts
        self._held: list[ItemBlock] = []
        self._held_items = 0

    def write(self, block: ItemBlock) -> None:
        """Take items; raises LayoutError if they are out of order, too many, of another width."""
        if block.k_i.shape != (len(block.ids), self._spec.vector_stride):
            raise LayoutError(f"items of shape {block.k_i.shape} do not fit")
        if not len(block.ids):
            return
        self._take_order(hash_ids(block.ids), "items")
        largest = largest_magnitude(block.k_i, self._spec.element_type)
        self.totals = self.totals.plus(Totals(largest_item=largest))
        self._held.append(block)
        self._held_items += len(block.ids)
        if self._held_items >= self._spec.block_items:
            self._store(keep=self._held_items % self._spec.block_items)

    def finish(self) -> None:
        """Send what is held back."""
        if self._held_items:
            self._store(keep=0)

    def _store(self, keep: int) -> None:
        """Store all items that are held back but the last ``keep``."""
        held = self._held
        items = ItemBlock(
            ids=np.concatenate([b.ids for b in held]),
            k_i=np.concatenate([b.k_i for b in held]),
            categories=np.concatenate([b.categories for b in held]),
            has_category=np.concatenate([b.has_category for b in held]),
        )
        end = self._held_items - keep
        for start in range(0, end, self._spec.block_items):
            self._store_block(_slice(items, start, min(start + self._spec.block_items, end)))
        self._held, self._held_items = [_slice(items, end, end + keep)], keep

    def _store_block(self, block: ItemBlock) -> None:
        if self.totals.items + len(block.ids) > self._spec.items:
            raise LayoutError(f"more than the {self._spec.items} items that were promised")
        hashes = hash_ids(block.ids[[0, -1]])
        raw, crc32 = pack_items(block)
        size_bytes = self._send(("SET", self._keys.block(self.keys_stored), raw))
        self.firsts.append(int(hashes[0]))
        self._last_sent = int(hashes[1])
        self.totals = self.totals.plus(Totals(items=len(block.ids), size_bytes=size_bytes))
        self.checksum = add_checksums(self.checksum, crc32)
        self.keys_stored += 1


def _parts(fields: list[bytes], records: list[bytes]) -> Iterator[list[bytes]]:
    """Cut users into the arguments of several commands, a field and a record in turn."""
    part: list[bytes] = []
    size_bytes = 0
    for field, record in zip(fields, records, strict=True):
        part += (field, record)
        size_bytes += len(record)
        if size_bytes >= _COMMAND_BYTES:
            yield part
            part, size_bytes = [], 0
    if part:
        yield part


def _slice(items: ItemBlock, start: int, end: int) -> ItemBlock:
    return ItemBlock(
        ids=items.ids[start:end],
        k_i=items.k_i[start:end],
        categories=items.categories[start:end],
        has_category=items.has_category[start:end],
    )
