"""Small exported worlds, and the contract's section 3 read out slowly, one number at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gkc.arrays import I64
from gkc.store import (
    Defaults,
    ElementType,
    GenerationSpec,
    ItemBlock,
    Origin,
    Published,
    Publisher,
    Retention,
    UserBlock,
    encode_vectors,
    hash_ids,
    open_publisher,
)
from gkc.store.ids import hash_strings
from gkc.strings import IdType

Vector = list[np.float32]
Id = int | str
PARTS = ("user", "item", "user_item", "user_category")

USERS = (7, -3, 2**53 + 1, 2**63 - 1, -(2**63), 0, 12)
ITEMS = (11, 12, 13, -14, 2**62, -(2**63), 0, 99, 100, 101)
CATEGORIES = (0, 3, 5, -6, 2**60)
STRANGERS = (8, -99, 2**61)
STRINGS = (("user",), ("item",), ("category",), ("user", "item", "category"))
"""The kinds whose ids are strings, in some of the worlds."""


@dataclass(frozen=True)
class World:
    """What one generation holds, as dictionaries of vectors before they are stored."""

    version: str
    element_type: ElementType
    users: dict[Id, Vector]
    items: dict[Id, Vector]
    item_categories: dict[Id, Id]
    pairs: dict[tuple[Id, Id], Vector]
    default_user: Vector | None = None
    default_item: Vector | None = None
    default_pair: Vector | None = None
    default_category: Id | None = None
    dim: int = 4
    category_dim: int = 3
    origin: Origin = field(default_factory=Origin)
    generation: str = field(default="", compare=False)

    # ---- the contract, slowly

    def stored(self, vector: Vector) -> Vector:
        """Round a vector as section 3, "Numbers", says that it is stored."""
        if self.element_type == "f16":
            return [np.float32(np.float16(x)) for x in vector]
        if self.element_type == "f32":
            return list(vector)
        scale = np.float32(max(abs(x) for x in vector) / np.float32(127))
        if scale == 0:
            return [np.float32(0)] * len(vector)
        return [np.float32(np.int8(np.rint(x / scale))) * scale for x in vector]

    def row(
        self, user: Id, item: Id, category: Id | None, parts: Sequence[str] = PARTS
    ) -> tuple[Vector, list[int]]:
        """Return the knowledge and the four statuses of one row."""
        k_u, of_user = self._look(self.users.get(user), self.default_user, self.dim)
        k_i, of_item = self._look(self.items.get(item), self.default_item, self.dim)
        if of_user == 0 or of_item == 0:
            k_ui, of_product = [np.float32(0)] * self.dim, 0
        else:
            k_ui = [a * b for a, b in zip(k_u, k_i, strict=True)]
            of_product = 1 if of_user == of_item == 1 else 2
        if category is None:
            category = self.category_of(item)
        k_uc, of_pair = [np.float32(0)] * self.category_dim, 0
        if category is not None:
            pair = self.pairs.get((user, category))
            k_uc, of_pair = self._look(pair, self.default_pair, self.category_dim)
        by_part = dict(zip(PARTS, (k_u, k_i, k_ui, k_uc), strict=True))
        row = [x for part in PARTS if part in parts for x in by_part[part]]
        return row, [of_user, of_item, of_product, of_pair]

    def category_of(self, item: Id) -> Id | None:
        """Return the category of an item whose row gives none."""
        if item in self.items:
            return self.item_categories.get(item)
        return self.default_category

    def _look(self, found: Vector | None, default: Vector | None, width: int) -> tuple[Vector, int]:
        if found is not None:
            return self.stored(found), 1
        if default is not None:
            return self.stored(default), 2
        return [np.float32(0)] * width, 0

    # ---- into a store

    def publish(self, url: str, namespace: str = "default", **options: Any) -> World:
        """Export this world; return it with its generation's id."""
        publisher = open_publisher(url, namespace)
        try:
            published = self._publish(publisher, **options)
            publisher.delete_retired(wait=True)
        finally:
            publisher.close()
        return replace(self, generation=published.generation)

    def _publish(
        self,
        publisher: Publisher,
        *,
        max_versions: int = 5,
        keep_previous: int = 1,
        grace_seconds: float = 0.0,
    ) -> Published:
        with publisher.stage(
            self._spec(),
            max_versions=max_versions,
            resume=False,
            categories=self._dictionary() if self._has_strings(self._categories()) else (),
        ) as staged:
            staged.sink.write_items(self._item_block())
            staged.sink.write_users(self._user_block())
            manifest = staged.sink.seal()
            retention = Retention(max_versions, keep_previous, grace_seconds)
            return publisher.publish(staged, manifest, retention)

    def _categories(self) -> set[Id]:
        given = set() if self.default_category is None else {self.default_category}
        return given | {*self.item_categories.values(), *(c for _, c in self.pairs)}

    def _dictionary(self) -> list[bytes]:
        return sorted(str(category).encode() for category in self._categories())

    def _code(self, category: Id) -> int:
        """Return what stands for a category in the store."""
        if isinstance(category, int):
            return category
        return self._dictionary().index(category.encode())

    @staticmethod
    def _has_strings(ids: Iterable[Id]) -> bool:
        return any(isinstance(id_, str) for id_ in ids)

    def _spec(self) -> GenerationSpec:
        types: list[IdType] = [
            "string" if self._has_strings(ids) else "int64"
            for ids in (self.users, self.items, self._categories())
        ]
        sizes = [
            sum(len(id_.encode()) for id_ in ids if isinstance(id_, str))
            for ids in (self.users, self.items, self._categories())
        ]
        return GenerationSpec(
            version=self.version,
            element_type=self.element_type,
            dim=self.dim,
            category_dim=self.category_dim,
            users=len(self.users),
            items=len(self.items),
            user_categories=len(self.pairs),
            bundle="a world",
            fingerprint="of a world",
            defaults=Defaults(
                self._one(self.default_user),
                self._one(self.default_item),
                self._one(self.default_pair),
                None if self.default_category is None else self._code(self.default_category),
            ),
            origin=self.origin,
            user_id_type=types[0],
            item_id_type=types[1],
            category_id_type=types[2],
            user_id_bytes=sizes[0],
            item_id_bytes=sizes[1],
            categories=len(self._categories()) if types[2] == "string" else 0,
            category_bytes=sizes[2],
        )

    def _one(self, vector: Vector | None) -> bytes | None:
        return None if vector is None else self._encoded([vector], len(vector)).tobytes()

    def _encoded(
        self, vectors: list[Vector], width: int
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        array = np.array(vectors, dtype=np.float32).reshape(len(vectors), width)
        return encode_vectors(array, self.element_type)

    def _item_block(self) -> ItemBlock:
        ids, keys, names = in_stored_order(self.items)
        own = [self.item_categories.get(i) for i in ids]
        return ItemBlock(
            ids=keys,
            names=names,
            k_i=self._encoded([self.items[i] for i in ids], self.dim),
            categories=np.array([0 if c is None else self._code(c) for c in own], dtype=np.int64),
            has_category=np.array([c is not None for c in own], dtype=bool),
        )

    def _user_block(self) -> UserBlock:
        ids, keys, names = in_stored_order(self.users)
        of_user = [sorted((c for u, c in self.pairs if u == user), key=self._code) for user in ids]
        pairs = [(u, c) for u, categories in zip(ids, of_user, strict=True) for c in categories]
        return UserBlock(
            ids=keys,
            names=names,
            k_u=self._encoded([self.users[u] for u in ids], self.dim),
            pair_offsets=np.cumsum([0, *map(len, of_user)], dtype=np.int64),
            categories=np.array([self._code(c) for _, c in pairs], dtype=np.int64),
            k_uc=self._encoded([self.pairs[p] for p in pairs], self.category_dim),
        )


class Worlds:
    """Exported worlds by version, and the store that they are in."""

    def __init__(self, url: str, worlds: Sequence[World]) -> None:
        self.url = url
        self._worlds = {world.version: world for world in worlds}

    def __getitem__(self, version: str) -> World:
        return self._worlds[version]


def make_world(
    version: str = "v1",
    seed: int = 0,
    element_type: ElementType = "f16",
    *,
    defaults: bool = False,
    dim: int = 4,
    category_dim: int = 3,
    value: float | None = None,
    origin: Origin | None = None,
    strings: Collection[str] = (),
) -> World:
    """Make a world of a few users and items, some without category; all of ``value`` if given.

    ``strings`` are the kinds whose ids are strings, of user, item and category.
    """
    rng = np.random.default_rng(seed)

    def vector(width: int) -> Vector:
        drawn = rng.standard_normal(width).astype(np.float32)
        drawn[rng.random(width) < 0.2] *= np.float32(-0.0)
        return list(drawn if value is None else np.full(width, value, dtype=np.float32))

    users = {named("user", u, strings): vector(dim) for u in USERS}
    items = [named("item", i, strings) for i in ITEMS]
    categories = [named("category", c, strings) for c in CATEGORIES]
    return World(
        version,
        element_type,
        users=users,
        items={i: vector(dim) for i in items},
        item_categories={i: categories[rng.choice(len(categories))] for i in items[:-3]},
        pairs={
            (u, c): vector(category_dim) for u in users for c in categories if rng.random() < 0.6
        },
        default_user=vector(dim) if defaults else None,
        default_item=vector(dim) if defaults else None,
        default_pair=vector(category_dim) if defaults else None,
        default_category=categories[1] if defaults else None,
        dim=dim,
        category_dim=category_dim,
        origin=origin or Origin(),
    )


def named(kind: str, id_: int, strings: Collection[str]) -> Id:
    """Return an id as a world has it in which these kinds are strings; not all of them ASCII."""
    return f"{kind} {id_} \N{SNOWMAN}" if kind in strings else id_


def versions_of(strings: Sequence[str]) -> tuple[str, str]:
    """Return the versions in which these kinds are strings."""
    name = "_".join(strings)
    return name, f"{name}-defaults"


def in_stored_order(ids: Iterable[Id]) -> tuple[list[Id], I64, list[bytes] | None]:
    """Return ids in the order of the store, their keys, and their bytes if they are strings."""
    listed = list(ids)
    names = [str(id_).encode() for id_ in listed] if World._has_strings(listed) else None
    keys = np.array(listed, dtype=np.int64) if names is None else hash_strings(names)
    hashes = hash_ids(keys).tolist()
    order = sorted(range(len(keys)), key=lambda k: (hashes[k], b"" if names is None else names[k]))
    return (
        [listed[k] for k in order],
        keys[order],
        None if names is None else [names[k] for k in order],
    )
