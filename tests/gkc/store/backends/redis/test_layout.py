"""Names, buckets and blocks: what the layout of Redis promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkc.store import ItemBlock
from gkc.store.backends.redis_format import (
    GenerationKeys,
    add_checksums,
    bucket_checksum,
    bucket_numbers,
    bucket_of,
    id_fields,
    pack_items,
    pack_marker,
    unpack_items,
    unpack_marker,
)
from gkc.store.generation import GenerationLayout
from gkc.store.protocol import hash_ids
from gkc.testing.samples import assert_same_items, make_sample


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.integers(1, 2**32 - 1))
def test_buckets_grow_with_the_hash_and_stay_in_range(hashes: list[int], buckets: int) -> None:
    array = np.array(sorted(hashes), dtype=np.uint64)
    numbers = bucket_numbers(array, buckets)
    assert (np.diff(numbers) >= 0).all()
    assert numbers.tolist() == [(h >> 32) * buckets >> 32 for h in sorted(hashes)]
    assert 0 <= numbers[0] <= numbers[-1] < buckets


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**32 - 1))
def test_one_user_s_bucket_is_that_of_many(user: int, buckets: int) -> None:
    many = bucket_numbers(hash_ids(np.array([user, 7], dtype=np.int64)), buckets)
    assert bucket_of(user, buckets) == many[0]


def test_fields_are_the_eight_bytes_of_an_id() -> None:
    ids = np.array([1, -1, 2**63 - 1, -(2**63)], dtype=np.int64)
    assert id_fields(ids) == [int(i).to_bytes(8, "little", signed=True) for i in ids]


def test_all_names_are_those_of_the_layout() -> None:
    keys = GenerationKeys("center", "0000000001-ab")
    names = list(keys.all_but_manifest(GenerationLayout(user_buckets=2, item_blocks=3)))
    prefix = "gkc:center:g:0000000001-ab:"
    assert names == [prefix + n for n in ("p", "i", "i:0", "i:1", "i:2", "u:0", "u:1")]
    assert keys.manifest == prefix + "m"


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_markers_round_trip_and_name_their_generation(users: int, checksum: int) -> None:
    marker = pack_marker("g1", users, checksum)
    assert unpack_marker(marker, "g1") == (users, checksum)
    for other in ("g2", "g", "g11"):
        with pytest.raises(ValueError, match="another generation"):
            unpack_marker(marker, other)


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.binary()), max_size=9), st.data())
def test_a_bucket_has_one_checksum_in_any_order(
    pairs: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(pairs))
    expected = bucket_checksum([f for f, _ in pairs], [r for _, r in pairs])
    assert bucket_checksum([f for f, _ in shuffled], [r for _, r in shuffled]) == expected


def test_checksums_add_up_in_64_bits() -> None:
    assert add_checksums(2**64 - 1, 3) == 2


def test_items_round_trip() -> None:
    items = make_sample(items=50).items
    raw, crc32 = pack_items(items)
    found, found_crc32 = unpack_items(raw, items.k_i.shape[1])
    assert_same_items(found, items)
    assert found_crc32 == crc32


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_every_flipped_bit_of_a_block_is_found(position: int, bit: int) -> None:
    items = make_sample(items=9).items
    raw = bytearray(pack_items(items)[0])
    raw[position % len(raw)] ^= 1 << bit
    with pytest.raises(ValueError, match=r"^has "):
        unpack_items(bytes(raw), items.k_i.shape[1])


def test_items_out_of_order_are_found() -> None:
    items = make_sample(items=9).items
    backwards = ItemBlock(
        items.ids[::-1], items.k_i[::-1], items.categories[::-1], items.has_category[::-1]
    )
    for wrong in (backwards, replace(items, ids=np.repeat(items.ids[:1], 9))):
        with pytest.raises(ValueError, match="order"):
            unpack_items(pack_items(wrong)[0], items.k_i.shape[1])
    empty = ItemBlock(items.ids[:0], items.k_i[:0], items.categories[:0], items.has_category[:0])
    with pytest.raises(ValueError, match="empty"):
        unpack_items(pack_items(empty)[0], items.k_i.shape[1])
    with pytest.raises(ValueError, match="only 3 bytes"):
        unpack_items(b"abc", 4)
