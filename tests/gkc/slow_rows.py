"""The rule of a row as the contract says it, one row at a time; and stores to try it on."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from hypothesis import strategies as st

from gkc.arrays import F32, I64, U8, Bools
from gkc.knowledge import ABSENT, DEFAULT, FOUND, PARTS, Part, Vectors
from gkc.strings import Ids, StringIds

ElementType = Literal["f16", "f32", "int8"]
AnswerType = Literal["f16", "f32"]

EXTREMES = (-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 1)
NAMES = {
    0: b"\0",
    1: b"a",
    -1: b"a\0",
    5: b"x" * 128,
    6: "\N{SNOWMAN}".encode(),
    # Of one key:
    2: b"the samekey, too",
    3: b"pcrjcphj{\tA/TpoR",
    4: b"tpqwvpdp[U<\x1a\x10\x0cD\n",
}
"""Strings that stand for numbers; others are those that `name_of` makes."""
DIMS = (1, 2, 3, 7, 8, 9, 16, 21, 255, 256, 257, 264, 517)
_NUMBERS = {"f16": "<f2", "f32": "<f4", "int8": "<i1"}


@dataclass(frozen=True)
class Store:
    """One generation: stored vectors by id."""

    element_type: ElementType
    dim: int
    category_dim: int
    items: Mapping[int, bytes]
    item_categories: Mapping[int, int | None]
    users: Mapping[int, tuple[bytes, Mapping[int, bytes]]]
    default_user: bytes | None
    default_item: bytes | None
    default_pair: bytes | None
    default_category: int | None
    has_names: bool = False
    """Whether the ids of items are strings: `name_of` them."""

    def row(
        self, user: int, item: int, category: int | None, parts: tuple[Part, ...], kind: AnswerType
    ) -> tuple[bytes, list[int], int | None]:
        """Return the bytes of a row, its statuses, and the category that it came to."""
        k_user, pairs = self.users.get(user, (self.default_user, {}))
        user_status = FOUND if user in self.users else ABSENT if k_user is None else DEFAULT
        k_item = self.items.get(item, self.default_item)
        item_status = FOUND if item in self.items else ABSENT if k_item is None else DEFAULT
        if category is None:
            category = self.item_categories.get(item, self.default_category)
        if category is None:
            k_pair, pair_status = None, ABSENT
        else:
            k_pair = pairs.get(category, self.default_pair)
            pair_status = FOUND if category in pairs else ABSENT if k_pair is None else DEFAULT
        if k_user is None or k_item is None:
            product_status = ABSENT
            product = np.zeros(self.dim, dtype=np.float32)
        else:
            both = user_status == item_status == FOUND
            product_status = FOUND if both else DEFAULT
            product = self.numbers(k_user, self.dim) * self.numbers(k_item, self.dim)
        vectors = {
            "user": self.numbers(k_user, self.dim),
            "item": self.numbers(k_item, self.dim),
            "user_item": product,
            "user_category": self.numbers(k_pair, self.category_dim),
        }
        dtype = np.float16 if kind == "f16" else np.float32
        with np.errstate(over="ignore"):
            row = b"".join(vectors[part].astype(dtype).tobytes() for part in PARTS if part in parts)
        return row, [user_status, item_status, product_status, pair_status], category

    def numbers(self, stored: bytes | None, width: int) -> F32:
        """Return a stored vector as float32."""
        if stored is None or not width:
            return np.zeros(width, dtype=np.float32)
        if self.element_type == "int8":
            scale = np.frombuffer(stored[:4], dtype="<f4")
            scaled: F32 = np.frombuffer(stored[4:], dtype="<i1").astype(np.float32) * scale
            return scaled
        return np.frombuffer(stored, dtype=_NUMBERS[self.element_type]).astype(np.float32)

    def sections(self) -> dict[str, bytearray]:
        """Return the table of items as its file has it."""
        key_of = slow_key_of_name if self.has_names else int
        ordered = sorted(self.items, key=lambda item: (slow_hash(key_of(item)), name_of(item)))
        bits = max(1, len(ordered).bit_length())
        buckets = [slow_hash(key_of(item)) >> 64 - bits for item in ordered]
        starts = [sum(b < bucket for b in buckets) for bucket in range((1 << bits) + 1)]
        categories = [self.item_categories.get(item) for item in ordered]
        keys = np.array([key_of(item) % 2**64 for item in ordered], dtype="<u8")
        names = [name_of(item) for item in ordered]
        ends = np.cumsum([0, *map(len, names)], dtype="<i8")
        of_names = {
            "id_offsets": bytearray(ends.tobytes()),
            "id_bytes": bytearray(b"".join(names)),
        }
        return (of_names if self.has_names else {}) | {
            "starts": bytearray(np.array(starts, dtype="<u4").tobytes()),
            "ids": bytearray(keys.tobytes()),
            "categories": bytearray(np.array([c or 0 for c in categories], dtype="<i8").tobytes()),
            "has_category": bytearray(c is not None for c in categories),
            "rows": bytearray(b"".join(self.items[item] for item in ordered)),
        }

    def defaults(self) -> dict[str, bytes | None]:
        """Return the default vectors as a manifest has them."""
        return {
            "user": self.default_user,
            "item": self.default_item,
            "user_category": self.default_pair,
        }

    def record(self, user: int) -> bytes:
        """Return the stored record of a user, an empty one of somebody who is not there."""
        if user not in self.users:
            return b""
        vector, pairs = self.users[user]
        ordered = sorted(pairs)
        return b"".join(
            (
                struct.pack("<II", 0, len(ordered)),
                _padded(vector),
                np.array(ordered, dtype="<i8").tobytes(),
                _padded(b"".join(pairs[category] for category in ordered)),
            )
        )


def slow_hash(id_: int) -> int:
    """Return the hash by which tables are ordered, as docs/store-format.md has it."""
    hashed = id_ % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashed = (hashed ^ hashed >> shift) * factor % 2**64
    return hashed ^ hashed >> 31


def name_of(id_: int) -> bytes:
    """Return the string that stands for a number where ids are strings."""
    return NAMES.get(id_, f"id {id_}".encode())


def slow_key_of_name(id_: int) -> int:
    """Return the key of that string, as docs/store-format.md has it."""
    name = name_of(id_)
    key = (len(name) + 1) * 0x9E3779B97F4A7C15 % 2**64
    for at in range(0, len(name), 8):
        word = int.from_bytes(name[at : at + 8], "little")
        key = (key ^ word) * 0xBF58476D1CE4E5B9 % 2**64
        key ^= key >> 32
    return key


def _padded(stored: bytes) -> bytes:
    return stored + bytes(-len(stored) % 8)


@dataclass(frozen=True)
class Asked:
    """A question about one store, row by row and as the columns that are handed in."""

    rows: list[tuple[int, int, int | None]]
    users: list[int]
    items: I64
    categories: I64 | None
    given: Bools | None
    user_index: I64 | None
    answer_rows: I64 | None
    answer_count: int
    parts: tuple[Part, ...]
    kind: AnswerType

    def item_column(self, store: Store) -> Ids:
        """Return the items as they are asked of a store."""
        if not store.has_names:
            return self.items
        return StringIds.of([name_of(item) for item in self.items.tolist()])

    def expected(self, store: Store) -> tuple[list[bytes], U8, I64, list[int | None]]:
        """Return rows, statuses, counts and categories, in the order asked."""
        told = [store.row(*row, self.parts, self.kind) for row in self.rows]
        counts: I64 = np.zeros((len(PARTS), 3), dtype=np.int64)
        for _, statuses, _ in told:
            for part, code in enumerate(statuses):
                counts[part, code] += 1
        status: U8 = np.array([s for _, s, _ in told], dtype=np.uint8).reshape(-1, len(PARTS))
        return [row for row, _, _ in told], status, counts.ravel(), [c for *_, c in told]

    def joined(self, store: Store) -> tuple[bytes, I64 | None]:
        """Return the users' records, and where each begins and ends."""
        records = [store.record(user) for user in self.users]
        if self.user_index is None:
            return records[0], None
        return b"".join(records), np.cumsum([0, *map(len, records)], dtype=np.int64)


def ids() -> st.SearchStrategy[int]:
    """Ids that meet each other often."""
    return st.integers(-4, 12) | st.sampled_from(EXTREMES)


@st.composite
def stores(draw: st.DrawFn) -> Store:
    """Draw a generation of any type, width and completeness."""
    element_type = draw(st.sampled_from(get_args(ElementType)))
    dim = draw(st.sampled_from(DIMS))
    category_dim = draw(st.sampled_from((0, *DIMS)))
    vectors = _vectors(element_type, np.random.default_rng(draw(st.integers(0, 2**32))))

    def maybe(width: int) -> bytes | None:
        return vectors(width) if draw(st.booleans()) else None

    item_ids = draw(st.sets(ids(), max_size=20))
    pair_ids = st.sets(ids(), max_size=12) if category_dim else st.just(set[int]())
    return Store(
        element_type,
        dim,
        category_dim,
        {item: vectors(dim) for item in item_ids},
        {item: draw(st.none() | ids()) for item in item_ids},
        {
            user: (vectors(dim), {pair: vectors(category_dim) for pair in draw(pair_ids)})
            for user in draw(st.sets(ids(), max_size=4))
        },
        maybe(dim),
        maybe(dim),
        maybe(category_dim),
        draw(st.none() | ids()),
        draw(st.booleans()),
    )


def _vectors(element_type: str, rng: np.random.Generator) -> Callable[[int], bytes]:
    def vector(width: int) -> bytes:
        if element_type == "int8":
            if not width:
                return b""
            scale = np.float32(rng.uniform(0, 2.0 ** rng.integers(-20, 3)))
            numbers: bytes = rng.integers(-127, 128, width).astype("<i1").tobytes()
            scaled: bytes = scale.astype("<f4").tobytes() + numbers
            return scaled
        spread = 2.0 ** rng.integers(-26 if element_type == "f16" else -80, 15, width)
        numbers_of = rng.uniform(-1, 1, width) * spread
        numbers_of[rng.random(width) < 0.1] = -0.0
        stored: bytes = numbers_of.astype(_NUMBERS[element_type]).tobytes()
        return stored

    return vector


@st.composite
def questions(draw: st.DrawFn) -> Asked:
    """Draw a question of any form."""
    n = draw(st.integers(0, 30))
    users = draw(st.lists(ids(), min_size=1, max_size=4, unique=True))
    if len(users) == 1 and draw(st.booleans()):
        user_index, of_row = None, users * n
    else:
        index = draw(_column(st.integers(0, len(users) - 1), n))
        user_index, of_row = np.array(index, dtype=np.int64), [users[k] for k in index]
    items = draw(_column(ids(), 1) if draw(st.booleans()) else _column(ids(), n))
    categories: list[int | None] | None = None
    if draw(st.booleans()):
        size = 1 if draw(st.booleans()) else n
        categories = draw(st.lists(st.none() | ids(), min_size=size, max_size=size))
    answer_count, answer_rows = n, None
    if draw(st.booleans()):
        answer_count = n + draw(st.integers(0, 3))
        answer_rows = np.array(draw(st.permutations(range(answer_count)))[:n], dtype=np.int64)
    of_items = items * n if len(items) == 1 else items
    wide = (
        [None] * n if categories is None else categories * n if len(categories) == 1 else categories
    )
    return Asked(
        rows=list(zip(of_row, of_items[:n], wide[:n], strict=True)),
        users=users,
        items=np.array(items, dtype=np.int64),
        categories=None if categories is None else np.array([c or 0 for c in categories], np.int64),
        given=None if categories is None else np.array([c is not None for c in categories], bool),
        user_index=user_index,
        answer_rows=answer_rows,
        answer_count=answer_count,
        parts=tuple(draw(st.lists(st.sampled_from(PARTS), unique=True))),
        kind=draw(st.sampled_from(get_args(AnswerType))),
    )


def _column(values: st.SearchStrategy[int], n: int) -> st.SearchStrategy[list[int]]:
    return st.lists(values, min_size=n, max_size=n)


def row_bytes(rows: Vectors) -> list[bytes]:
    """Return each row's bytes."""
    return [row.tobytes() for row in rows]


ONE = Store(
    "f16", 2, 2, {1: bytes(4)}, {1: 3}, {1: (bytes(4), {3: bytes(4)})}, None, None, None, None
)
"""Item 1 of category 3, and user 1 with a pair of it; no defaults."""
