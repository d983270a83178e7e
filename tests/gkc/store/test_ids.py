"""Hashes and keys, which are part of the stored format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.errors import LayoutError
from gkc.store.ids import check_strings, hash_id, hash_ids, hash_strings

MASK = (1 << 64) - 1


def key_of(name: bytes) -> int:
    """The definition, word by word."""
    h = 0x9E3779B97F4A7C15 * (len(name) + 1) & MASK
    for start in range(0, len(name), 8):
        word = int.from_bytes(name[start : start + 8].ljust(8, b"\0"), "little")
        h = (h ^ word) * 0xBF58476D1CE4E5B9 & MASK
        h ^= h >> 32
    return h - (1 << 64) if h >> 63 else h


@given(st.lists(st.binary(max_size=128), max_size=20))
def test_keys_of_strings_follow_their_definition(names: list[bytes]) -> None:
    assert hash_strings(names).tolist() == [key_of(name) for name in names]


def test_keys_never_change() -> None:
    names = [b"", b"a", b"a\0", b"user 12345", b"x" * 128]
    assert hash_strings(names).tolist() == [
        -7046029254386353131,
        6289655772071058858,
        -5833046059881335187,
        -7588175771768958577,
        4619711205766037075,
    ]
    ids = np.array([0, 1, -1], dtype=np.int64)
    assert hash_ids(ids).tolist() == [hash_id(i) for i in ids.tolist()]


@pytest.mark.parametrize("name", [b"", b"x" * 129, b"\xff", b"\xed\xa0\x80"])
def test_what_is_no_string_id_is_named(name: bytes) -> None:
    check_strings([b"a", "é".encode(), b"x" * 128], "user")
    with pytest.raises(LayoutError, match="is no string id: 1 to 128 bytes of UTF-8"):
        check_strings([b"a", name], "user")
