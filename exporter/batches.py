"""Cut sorted partitions into the batches that go through the models and into the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from exporter.features import Values
from exporter.manifest import ModelKind
from exporter.partitions import Rows
from exporter.prepare import Prepared
from gkc.arrays import I64

_BATCH_ITEMS: Final = 8192
_BATCH_USERS: Final = 4096
_BATCH_PAIRS: Final = 16_384
_BATCH_BYTES: Final = 16 << 20
"""Of the inputs of one model, for tables with lists so long that fewer rows are enough."""


@dataclass(frozen=True, slots=True)
class ItemBatch:
    """Items in stored order, with what the item model takes.

    Attributes
    ----------
    ids, rows : ndarray, shape (n,), int64
        Ids, and where in the whole table they stood.
    categories : ndarray, shape (n,), int64
    has_category : ndarray, shape (n,), bool
    inputs : dict of str to ndarray, shape (n,) or (n, width)
    skip : int
        Leading rows that the store already has.
    """

    ids: I64
    rows: I64
    categories: I64
    has_category: npt.NDArray[np.bool_]
    inputs: dict[str, Values]
    skip: int = 0


@dataclass(frozen=True, slots=True)
class UserBatch:
    """Users in stored order and all their pairs, with what both models take.

    Attributes
    ----------
    ids, rows : ndarray, shape (n,), int64
    pair_offsets : ndarray, shape (n + 1,), int64
        The pairs of user ``k`` are ``pair_offsets[k]`` to ``pair_offsets[k + 1]``.
    categories, pair_rows : ndarray, shape (P,), int64
        Categories ascending within a user, and where in the whole table of pairs they stood.
    user_inputs, pair_inputs : dict of str to ndarray, shape (n or P,) or (n or P, width)
    skip : int
        Leading users that the store already has.
    """

    ids: I64
    rows: I64
    pair_offsets: I64
    categories: I64
    pair_rows: I64
    user_inputs: dict[str, Values]
    pair_inputs: dict[str, Values]
    skip: int = 0


def item_batches(prepared: Prepared, skip: int) -> Iterator[ItemBatch]:
    """Yield all items but batches that lie whole within the first ``skip``.

    A batch that is partly stored comes whole, so that models see the same batches on resuming.
    """
    spill = prepared.spills["items"]
    most = _most_rows(prepared, "item", _BATCH_ITEMS)
    done = 0
    for partition in range(spill.partitions):
        size = int(spill.rows[partition])
        if done + size > skip:
            items = prepared.load("items", partition)
            for start in range(0, size, most):
                places = np.arange(start, min(start + most, size), dtype=np.int64)
                if done + start + len(places) > skip:
                    yield items_at(prepared, items, places, max(0, skip - done - start))
        done += size


def items_at(prepared: Prepared, items: Rows, places: I64, skip: int = 0) -> ItemBatch:
    """Gather some of a partition's items."""
    return ItemBatch(
        items.ids[places],
        items.rows[places],
        items.categories[places],
        items.has_category[places],
        prepared.inputs("item", {"items": (items, places)}),
        skip,
    )


def user_batches(prepared: Prepared, skip: int) -> Iterator[UserBatch]:
    """Yield all users with their pairs but batches that lie whole within the first ``skip``."""
    spill = prepared.spills["users"]
    most_users = _most_rows(prepared, "user", _BATCH_USERS)
    most_pairs = _most_rows(prepared, "user_category", _BATCH_PAIRS)
    done = 0
    for partition in range(spill.partitions):
        size = int(spill.rows[partition])
        if done + size > skip:
            users = prepared.load("users", partition)
            pairs = prepared.load("user_categories", partition)
            offsets = pair_offsets(users, pairs)
            for start, end in _user_spans(offsets, most_users, most_pairs):
                if done + end > skip:
                    places = np.arange(start, end, dtype=np.int64)
                    yield users_at(
                        prepared, users, pairs, offsets, places, max(0, skip - done - start)
                    )
        done += size


def pair_offsets(users: Rows, pairs: Rows) -> I64:
    """Return where each user's pairs begin among sorted pairs, shape (n + 1,), int64."""
    counts = np.bincount(users.owners(pairs.ids), minlength=len(users.ids))
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _most_rows(prepared: Prepared, kind: ModelKind, rows: int) -> int:
    return max(1, min(rows, _BATCH_BYTES // max(1, prepared.row_bytes(kind))))


def _user_spans(offsets: I64, most_users: int, most_pairs: int) -> Iterator[tuple[int, int]]:
    """Yield spans of users bounded in users and pairs, of at least one user each."""
    start, users = 0, len(offsets) - 1
    while start < users:
        fits = int(np.searchsorted(offsets, offsets[start] + most_pairs, side="right")) - 1
        end = min(users, start + most_users, max(fits, start + 1))
        yield start, end
        start = end


def users_at(
    prepared: Prepared, users: Rows, pairs: Rows, offsets: I64, places: I64, skip: int = 0
) -> UserBatch:
    """Gather some of a partition's users and all their pairs.

    Parameters
    ----------
    prepared : Prepared
    users, pairs : Rows
        Of one partition.
    offsets : ndarray, shape (users + 1,), int64
        As `pair_offsets` gives them.
    places : ndarray, shape (n,), int64
        Which users.
    skip : int
        Leading users of the batch that the store already has.
    """
    counts = offsets[places + 1] - offsets[places]
    own = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    owner = np.repeat(places, counts)
    pair_places = np.arange(own[-1]) - np.repeat(own[:-1] - offsets[places], counts)
    chosen = {"users": (users, owner), "user_categories": (pairs, pair_places)}
    return UserBatch(
        users.ids[places],
        users.rows[places],
        own,
        pairs.categories[pair_places],
        pairs.rows[pair_places],
        prepared.inputs("user", {"users": (users, places)}),
        prepared.inputs("user_category", chosen),  # type: ignore[arg-type]
        skip,
    )
