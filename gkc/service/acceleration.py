"""Compiled loops at start: each is tried against numpy first, and all must agree with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from gkc.arrays import F16, I64
from gkc.kernels import NOT_LAID, Kernels, compile_kernels, use
from gkc.store import hash_ids

_SPECIAL: Final = (0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 0.1, -0.1, 1.0, -1.0, 3.0, 65504.0, np.inf)
"""Besides random halves: zeros, the least subnormal and normal ones, and what overflows."""
_RANDOM: Final = 20
_IDS: Final = 3_000
_BUCKET_BITS: Final = 10
_USERS: Final = 7


def accelerate() -> str:
    """Compile the loops, try them, and use them from now on in this process; takes a second or two.

    Returns
    -------
    str
        Empty if they are used, else why not: numpy goes on doing everything.
    """
    try:
        loops = compile_kernels()
    except ImportError as exc:
        return f"numba is not installed (pip install 'gkc[fast]'): {exc}"
    except Exception as exc:  # noqa: BLE001  # whatever a compiler raises, numpy is there
        return f"numba cannot compile the loops: {exc}"
    wrong = [name for name, is_right in _TRIALS.items() if not is_right(loops)]
    if wrong:
        return f"compiled {', '.join(wrong)} does not equal numpy's way on this processor"
    use(loops)
    return ""


def _finds_rows(loops: Kernels) -> bool:
    rng = np.random.default_rng(0)
    drawn = np.unique(rng.integers(-(1 << 63), (1 << 63) - 1, 2 * _IDS))
    asked = rng.permutation(drawn)
    ids = asked[:_IDS][np.argsort(hash_ids(asked[:_IDS]))]  # the other half is unknown
    shift = np.uint64(64 - _BUCKET_BITS)
    buckets = (hash_ids(ids) >> shift).astype(np.int64)
    starts = np.searchsorted(buckets, np.arange((1 << _BUCKET_BITS) + 1)).astype(np.uint32)
    place_of = {one: place for place, one in enumerate(ids.tolist())}
    expected = [place_of.get(one, -1) for one in asked.tolist()]
    rows = np.empty(len(asked), dtype=np.int64)
    found = loops.find_rows(asked, starts, ids, len(ids), shift, rows)
    beyond = np.full_like(starts, len(ids) + 1)
    short = starts[:1]
    return (
        found
        and rows.tolist() == expected
        and not loops.find_rows(asked, beyond, ids, len(ids), shift, rows)
        and not loops.find_rows(asked, short, ids, len(ids), shift, rows)
    )


def _takes_rows(loops: Kernels) -> bool:
    rng = np.random.default_rng(1)
    ids = rng.integers(-(1 << 63), (1 << 63) - 1, _IDS)
    stored = rng.integers(0, 256, (_IDS, 37), dtype=np.uint8)
    categories = rng.integers(-(1 << 63), (1 << 63) - 1, _IDS)
    has_category = rng.integers(0, 2, _IDS, dtype=np.uint8)
    rows = rng.integers(0, _IDS, 500)
    k_i = np.empty((len(rows), stored.shape[1]), dtype=np.uint8)
    own, category = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.int64)
    has = np.empty(len(rows), dtype=np.bool_)
    columns = ids, stored, categories, has_category, own, k_i, category, has
    return (
        loops.take_rows(rows, *columns)
        and bool((own == ids[rows]).all())
        and bool((k_i == stored[rows]).all() and (category == categories[rows]).all())
        and bool((has == has_category[rows].astype(np.bool_)).all())
        and not loops.take_rows(np.array([0, _IDS]), *columns)
        and not loops.take_rows(np.array([-1]), *columns)
    )


def _tells_apart(loops: Kernels) -> bool:
    rng = np.random.default_rng(4)
    extremes = np.array([-(1 << 63), (1 << 63) - 1, 0, -1])
    for values in (rng.permutation(np.repeat(extremes, 9)), rng.integers(0, _IDS, _IDS)):
        known: dict[int, int] = {}
        expected = [known.setdefault(value, len(known)) for value in values.tolist()]
        first, index = np.empty_like(values), np.empty_like(values)
        slots = np.full(2 << len(values).bit_length(), -1)
        count = loops.first_appearances(
            values, np.uint64(rng.integers(1 << 62)), slots, first, index
        )
        firsts = [expected.index(k) for k in range(len(known))]
        if index.tolist() != expected or first[:count].tolist() != firsts:
            return False
    return True


def _finds_pairs(loops: Kernels) -> bool:
    rng = np.random.default_rng(2)
    counts = rng.permutation(_USERS)  # one user has no pair
    offsets = np.concatenate([[0], np.cumsum(counts)])
    stored = np.concatenate([np.sort(rng.choice(2 * _USERS, n, replace=False)) for n in counts])
    every = range(-1, 2 * _USERS + 1)
    asked = [(user, one) for user in range(_USERS) for one in every]
    users, categories = np.array(asked).T.copy()
    own = [stored[offsets[user] : offsets[user + 1]].tolist() for user in range(_USERS)]
    expected = [
        offsets[user] + own[user].index(one) if one in own[user] else -1 for user, one in asked
    ]

    def places(users: I64, categories: I64) -> list[int]:
        found = np.empty(max(len(users), len(categories)), dtype=np.int64)
        loops.find_pairs(offsets, stored, users, categories, found)
        told: list[int] = found.tolist()
        return told

    n = len(every)
    return (
        places(users, categories) == expected
        and places(users[:1], categories[:n]) == expected[:n]
        and places(users[::n].copy(), categories[3:4]) == expected[3::n]
    )


def _lays_rows(loops: Kernels) -> bool:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[~np.isnan(every)]
    random = np.random.default_rng(3).choice(every, _RANDOM)
    users = np.concatenate([np.array(_SPECIAL, dtype=np.float16), random])[:, np.newaxis]
    users = np.repeat(users, len(every), axis=1)
    of_each = np.arange(len(users))
    pairs = np.stack([every[::-1], every])
    for user, user_index, item, pair_index in (
        (users, of_each, every[np.newaxis], of_each % 2),  # one item for all rows
        (users[:2], np.array([1]), np.repeat(every[np.newaxis], 2, axis=0), np.array([1])),
        (users[:2], np.array([1, 0]), np.repeat(every[np.newaxis], 2, axis=0), np.array([0, 1])),
    ):
        if not _lays(loops, user, user_index, item, pairs, pair_index):
            return False
    return True


def _lays(
    loops: Kernels, user: F16, user_index: I64, item: F16, pair: F16, pair_index: I64
) -> bool:
    """Compare the bits of the whole rows, and of each part alone, with room on both sides."""
    n, width = max(len(user_index), len(item)), user.shape[1]
    u, i, c = (v.astype(np.float32) for v in (user[user_index], item, pair[pair_index]))
    with np.errstate(all="ignore"):
        parts = u, i, u * i, c
    for dtype, bits in ((np.float16, np.uint16), (np.float32, np.uint32)):
        for laid in ((0, 1, 2, 3), (0,), (1,), (2,), (3,)):
            expected = np.ones((n, len(laid) * width + 2), dtype=dtype)
            columns = np.full(4, NOT_LAID, dtype=np.int64)
            for place, part in enumerate(laid):
                columns[part] = 1 + place * width
                with np.errstate(over="ignore"):
                    expected[:, columns[part] : columns[part] + width] = parts[part]
            out = np.ones_like(expected)
            loops.lay_rows(user, user_index, item, pair, pair_index, columns, out)
            same = (out.view(bits) == expected.view(bits)) | np.isnan(expected)
            if not same.all():
                return False
    return True


_TRIALS: Final[Mapping[str, Callable[[Kernels], bool]]] = {
    "find_rows": _finds_rows,
    "take_rows": _takes_rows,
    "first_appearances": _tells_apart,
    "find_pairs": _finds_pairs,
    "lay_rows": _lays_rows,
}
"""Tells of each loop whether it does what numpy does."""
