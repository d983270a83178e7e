"""What is written is what the payload counts, and a real server keeps more than that."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bench.generations import (
    item_blocks,
    items_spec,
    payload_bytes,
    user_blocks,
    users_spec,
)
from bench.stored_bytes import LOG_NORMAL, in_files, in_redis, log_normal_pairs


def test_users_have_the_pairs_they_are_to_have() -> None:
    pairs = np.array([3, 1, 300, 2])
    spec = users_spec(4, pairs)
    (block,) = user_blocks(spec, pairs)
    assert np.diff(block.pair_offsets).tolist() == pairs.tolist()
    assert block.categories[:5].tolist() == [0, 1, 2, 0, 0]
    assert payload_bytes(spec) == 4 * (8 + 8) + 306 * (8 + 8)


def test_items_count_with_their_category() -> None:
    spec = items_spec(4, 10)
    (block,) = item_blocks(spec)
    assert len(block.ids) == 10
    assert payload_bytes(spec) == 10 * (8 + 17)


def test_log_normal_pairs_have_the_median_that_is_told() -> None:
    pairs = log_normal_pairs(10_000)
    assert abs(np.median(pairs) - 30) <= 1
    assert 1 <= pairs.min() < pairs.max() <= LOG_NORMAL[2]


@pytest.mark.redis
def test_a_server_keeps_more_than_the_payload(tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    pairs = np.full(500, 40)
    spec = users_spec(64, pairs)
    assert 1 < in_redis(tmp_path, spec, user_blocks(spec, pairs), cores) < 3


def test_files_keep_the_payload_and_an_index(tmp_path: Path) -> None:
    pairs = np.full(500, 40)
    spec = users_spec(64, pairs)
    store = tmp_path / "store"
    assert 1 < in_files(store, spec, user_blocks(spec, pairs)) < 1.1
    assert not store.exists()
