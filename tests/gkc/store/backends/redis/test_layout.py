"""Names, buckets and markers: what the layout of Redis promises."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkc.store.backends.redis.layout import (
    GenerationKeys,
    add_checksums,
    bucket_numbers,
    bucket_of,
    pack_marker,
    sum_of,
    unpack_marker,
)
from gkc.store.generation import GenerationLayout
from gkc.store.ids import hash_ids


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


def test_all_names_are_those_of_the_layout() -> None:
    keys = GenerationKeys("center", "0000000001-ab")
    layout = GenerationLayout(user_buckets=2, item_chunks=3, chunk_bytes=8192)
    names = list(keys.all_but_manifest(layout))
    prefix = "gkc:center:g:0000000001-ab:"
    assert names == [prefix + n for n in ("p", "i", "i:0", "i:1", "i:2", "u:0", "u:1")]
    assert keys.manifest == prefix + "m"


@settings(deadline=None)
@given(*[st.integers(0, 2**32 - 1)] * 2, st.integers(0, 2**63 - 1))
def test_markers_round_trip_and_name_generation_and_bucket(
    bucket: int, users: int, checksum: int
) -> None:
    marker = pack_marker("g1", bucket, users, checksum)
    assert unpack_marker(marker, "g1", bucket) == (users, checksum)
    for other in ("g2", "g", "g11"):
        with pytest.raises(ValueError, match="another generation"):
            unpack_marker(marker, other, bucket)
    with pytest.raises(ValueError, match=f"marker of bucket {bucket}"):
        unpack_marker(marker, "g1", bucket + 1)


@given(st.binary(max_size=30))
def test_any_bytes_are_a_marker_or_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="marker"):
        unpack_marker(raw, "g1", 0)


def test_the_checksum_of_users_is_the_sum_of_their_records() -> None:
    records = [struct.pack("<I", crc) + b"rest" for crc in (1, 2**32 - 1, 7)]
    assert sum_of(records) == sum_of(records[::-1]) == 2**32 + 7
    assert add_checksums(2**63 - 1, 3) == 2
