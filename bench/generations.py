"""Generations of random vectors published as they are, without a bundle and its models."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.bundles import USER_ID_STEP
from bench.world import VERSION, Shape
from gkc.arrays import I64
from gkc.id_index import keys_of
from gkc.store import (
    GenerationSpec,
    ItemBlock,
    Retention,
    UserBlock,
    encode_vectors,
    hash_ids,
    open_publisher,
)
from gkc.strings import IdType, StringIds

USERS_AT_ONCE: Final = 10_000


@dataclass(frozen=True)
class Ids:
    """Ids in stored order, as blocks have them."""

    keys: I64
    names: Sequence[bytes] | None = None
    """What strings are, as UTF-8; None if ids are numbers."""

    @classmethod
    def numbers(cls, numbers: Sequence[int] | range) -> Ids:
        """Return these numbers as ids."""
        keys = np.array(numbers, dtype=np.int64)
        return cls(keys[hash_ids(keys).argsort()])

    @classmethod
    def texts(cls, texts: Sequence[str]) -> Ids:
        """Return these strings as ids."""
        names = [text.encode() for text in texts]
        keys = keys_of(StringIds.of(names))
        order = hash_ids(keys).argsort()
        return cls(keys[order], [names[k] for k in order.tolist()])

    @property
    def type(self) -> IdType:
        """As a generation names it."""
        return "int64" if self.names is None else "string"

    @property
    def name_bytes(self) -> int:
        """Of all strings together."""
        return sum(map(len, self.names or ()))

    def names_of(self, some: slice) -> Sequence[bytes] | None:
        """Return what some of the strings are."""
        return None if self.names is None else self.names[some]


def publish_numbers(store: str, shape: Shape) -> str:
    """Publish a generation that has the ids of synthetic bundles; return the store's URL."""
    users = range(0, shape.users * USER_ID_STEP, USER_ID_STEP)
    publish(store, VERSION, shape, Ids.numbers(users), Ids.numbers(range(shape.items)))
    return store


def publish(store: str, version: str, shape: Shape, users: Ids, items: Ids) -> None:
    """Publish a generation of these ids, with a shape's pairs, categories and widths, in f16.

    A user's pairs are of categories from 0 on; an item's category is its key modulo
    ``shape.categories``. Vectors recur: only where they lie costs time.
    """
    spec = GenerationSpec(
        version=version,
        element_type="f16",
        dim=shape.dim,
        category_dim=shape.dim,
        users=len(users.keys),
        items=len(items.keys),
        user_categories=len(users.keys) * shape.pairs,
        bundle="bench",
        fingerprint="bench",
        user_id_type=users.type,
        item_id_type=items.type,
        user_id_bytes=users.name_bytes,
        item_id_bytes=items.name_bytes,
    )
    most = max(len(items.keys), USERS_AT_ONCE * max(1, shape.pairs))
    drawn = np.random.default_rng(0).standard_normal((most, shape.dim), dtype=np.float32)
    vectors = encode_vectors(drawn, "f16")
    own = np.arange(shape.pairs, dtype=np.int64)
    with (
        closing(open_publisher(store)) as publisher,
        publisher.stage(spec, max_versions=5, resume=False) as staged,
    ):
        count = len(items.keys)
        categories, has_one = items.keys % shape.categories, np.ones(count, dtype=np.bool_)
        staged.sink.write_items(
            ItemBlock(items.keys, vectors[:count], categories, has_one, items.names)
        )
        for start in range(0, len(users.keys), USERS_AT_ONCE):
            some = slice(start, start + USERS_AT_ONCE)
            keys = users.keys[some]
            offsets = np.arange(len(keys) + 1, dtype=np.int64) * shape.pairs
            pairs = np.tile(own, len(keys))
            staged.sink.write_users(
                UserBlock(
                    keys,
                    vectors[: len(keys)],
                    offsets,
                    pairs,
                    vectors[: len(pairs)],
                    users.names_of(some),
                )
            )
        publisher.publish(staged, staged.sink.seal(), Retention(grace_seconds=0.0))
