from __future__ import annotations

import numpy as np

from exporter.sample import Sample, user_at
from gkc.store import GenerationSpec, ItemBlock, UserBlock


def spec(users: int, items: int, pairs: int, dim: int = 4) -> GenerationSpec:
    return GenerationSpec("v", "f32", dim, dim, users, items, pairs, "b", "f")


def items(start: int, count: int) -> ItemBlock:
    ids = np.arange(start, start + count)
    k_i = np.repeat(ids.astype(np.uint8)[:, None], 16, axis=1)
    return ItemBlock(ids, k_i, ids * 2, ids % 2 == 0)


def users(start: int, count: int) -> UserBlock:
    """User k has k % 3 pairs."""
    ids = np.arange(start, start + count)
    offsets = np.concatenate([[0], np.cumsum(ids % 3)])
    return UserBlock(
        ids,
        np.repeat(ids.astype(np.uint8)[:, None], 16, axis=1),
        offsets,
        np.arange(offsets[-1]),
        np.zeros((offsets[-1], 16), np.uint8),
    )


def test_few_rows_are_all_kept() -> None:
    sample = Sample(spec(10, 20, 10))
    sample.see_items(items(0, 7))
    sample.see_items(items(7, 13))
    sample.see_users(users(0, 10))
    assert np.concatenate([b.ids for b in sample.items]).tolist() == list(range(20))
    assert [int(u.ids[0]) for u in sample.users] == list(range(10))
    assert [len(u.categories) for u in sample.users] == [k % 3 for k in range(10)]


def test_of_many_rows_evenly_spaced_ones_are_kept_whatever_the_blocks() -> None:
    chosen = []
    for block in (17, 1000, 10_000):
        sample = Sample(spec(0, 10_000, 0))
        for start in range(0, 10_000, block):
            sample.see_items(items(start, min(block, 10_000 - start)))
        chosen.append(np.concatenate([b.ids for b in sample.items]).tolist())
    assert chosen[0] == chosen[1] == chosen[2] == list(range(0, 10_000, 10))


def test_large_records_make_a_small_sample() -> None:
    sample = Sample(spec(1000, 0, 100_000, dim=1024))
    sample.see_users(users(0, 1000))
    assert 30 < len(sample.users) < 60


def test_a_user_is_copied_with_the_pairs_that_are_theirs() -> None:
    block = users(3, 4)
    one = user_at(block, 2)
    assert one.ids.tolist() == [5]
    assert one.categories.tolist() == block.categories[1:3].tolist()
    assert one.pair_offsets.tolist() == [0, 2]
    assert not np.shares_memory(one.k_u, block.k_u)
