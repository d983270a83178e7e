"""A sample of what was written, to be compared bit for bit with what the store gives back."""

from __future__ import annotations

import numpy as np

from gkc.arrays import I64
from gkc.store import GenerationSpec, ItemBlock, UserBlock

_SAMPLE_ROWS = 1000
_SAMPLE_BYTES = 16_000_000


class Sample:
    """Evenly spaced rows of what passes by.

    Rows come in the order of their hashes, so evenly spaced ones are an unbiased choice, and the
    same one for the same ids.

    Parameters
    ----------
    spec : GenerationSpec
        Says how many rows will pass; bounds the sample in rows and bytes.
    """

    def __init__(self, spec: GenerationSpec) -> None:
        self.items: list[ItemBlock] = []
        self.users: list[UserBlock] = []
        self._item_step = _step(spec.items, spec.vector_stride)
        self._user_step = _step(spec.users, spec.mean_record_bytes)
        self._items_seen = 0
        self._users_seen = 0

    def see_items(self, block: ItemBlock) -> None:
        """Keep some of the items that were written."""
        at = _chosen(self._items_seen, len(block.ids), self._item_step)
        self._items_seen += len(block.ids)
        if len(at):
            chosen = (block.ids[at], block.k_i[at], block.categories[at], block.has_category[at])
            self.items.append(ItemBlock(*chosen))

    def see_users(self, block: UserBlock) -> None:
        """Keep some of the users that were written, with all their pairs."""
        at = _chosen(self._users_seen, len(block.ids), self._user_step)
        self._users_seen += len(block.ids)
        self.users.extend(user_at(block, int(k)) for k in at)


def user_at(block: UserBlock, k: int) -> UserBlock:
    """Copy one user out of a block."""
    start, end = (int(p) for p in block.pair_offsets[k : k + 2])
    return UserBlock(
        ids=block.ids[k : k + 1].copy(),
        k_u=block.k_u[k : k + 1].copy(),
        pair_offsets=np.array([0, end - start], dtype=np.int64),
        categories=block.categories[start:end].copy(),
        k_uc=block.k_uc[start:end].copy(),
    )


def _step(rows: int, row_bytes: float) -> int:
    wanted = max(1.0, min(_SAMPLE_ROWS, _SAMPLE_BYTES / max(row_bytes, 1.0)))
    return max(1, int(rows / wanted))


def _chosen(seen: int, rows: int, step: int) -> I64:
    return np.arange(-seen % step, rows, step, dtype=np.int64)
