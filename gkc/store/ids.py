"""Ids and the order that rows are stored in: the hash of a number, the key of a string.

Rows are written and stored in the order of `hash_ids`, so that no step ever needs all ids at once:
the bucket of a user and the place of an item in a table file follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from gkc.arrays import I64, U64
from gkc.errors import LayoutError

IdType = Literal["int64", "string"]
"""What an id is: a number, which is its own key, or a string, whose key is `hash_strings` of it."""

MAX_STRING_BYTES: Final = 128
_UINT64: Final = (1 << 64) - 1
_WORD: Final = 8


def hash_ids(ids: I64) -> U64:
    """Mix ids so that any set of them spreads evenly over the 64-bit range.

    The mix is a bijection (the finaliser of splitmix64), so distinct ids have distinct hashes and
    one order. It is part of the stored format and never changes.

    Parameters
    ----------
    ids : ndarray, shape (n,), int64

    Returns
    -------
    ndarray, shape (n,), uint64
    """
    h = ids.astype(np.uint64)  # a fresh array: two's complement, as stored
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return h


def hash_id(number: int) -> int:
    """Return what `hash_ids` gives for one id."""
    h = number & _UINT64
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & _UINT64
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & _UINT64
    return h ^ (h >> 31)


def hash_strings(names: Sequence[bytes]) -> I64:
    """Return the key of each string: 64 bits of hash, in which different strings may meet.

    Words of eight bytes, little-endian and padded with zeros, go into a product each. It is part of
    the stored format and never changes.

    Parameters
    ----------
    names : sequence of bytes, length n
        Each at most `MAX_STRING_BYTES` long.

    Returns
    -------
    ndarray, shape (n,), int64
    """
    lengths = np.fromiter(map(len, names), dtype=np.uint64, count=len(names))
    h = (lengths + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    words = (lengths.astype(np.int64) + (_WORD - 1)) // _WORD
    most = int(words.max(initial=0))
    if most:
        padded = np.array(names, dtype=f"S{most * _WORD}").view("<u8").reshape(len(names), most)
        for k in range(most):
            mixed = (h ^ padded[:, k]) * np.uint64(0xBF58476D1CE4E5B9)
            h = np.where(words > k, mixed ^ (mixed >> np.uint64(32)), h)
    return h.view(np.int64)


def check_strings(names: Sequence[bytes], what: str) -> None:
    """Check that strings may be ids.

    Raises
    ------
    LayoutError
        If one is not 1 to `MAX_STRING_BYTES` bytes of UTF-8.
    """
    for name in names:
        try:
            name.decode()
            is_text = True
        except UnicodeDecodeError:
            is_text = False
        if not is_text or not 1 <= len(name) <= MAX_STRING_BYTES:
            raise LayoutError(
                f"{what} {name!r} is no string id: 1 to {MAX_STRING_BYTES} bytes of UTF-8"
            )
