"""Ids and the order that rows are stored in: the hash of a number, the key of a string.

Rows are written and stored in the order of `hash_ids`, so that no step ever needs all ids at once:
the bucket of a user and the place of an item in a table file follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gkc.arrays import I64, U64
from gkc.errors import LayoutError
from gkc.id_index import keys_of
from gkc.strings import MAX_STRING_BYTES, Ids, StringIds

_UINT64: Final = (1 << 64) - 1


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
    """Return the key of each string, shape (n,), int64."""
    return keys_of(StringIds.of(names))


def hashes_of(ids: Ids) -> U64:
    """Return the place of each id in the stored order, shape (n,), uint64; equal keys share it."""
    return hash_ids(keys_of(ids) if isinstance(ids, StringIds) else ids)


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
