"""What is written is what the payload counts, and a real server keeps more than that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench.generations import (
    blocks_of,
    item_blocks,
    items_spec,
    payload_bytes,
    user_blocks,
    users_spec,
)
from bench.results import Section
from bench.stored_bytes import LOG_NORMAL, in_files, in_redis, log_normal_pairs, main


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
def test_a_server_keeps_more_than_the_payload() -> None:
    pairs = np.full(500, 40)
    spec = users_spec(64, pairs)
    assert 1 < in_redis(spec, blocks_of(spec, pairs)) < 3


def test_files_keep_the_payload_and_an_index() -> None:
    pairs = np.full(500, 40)
    spec = users_spec(64, pairs)
    assert 1 < in_files(spec, blocks_of(spec, pairs)) < 1.1


@pytest.mark.redis
@pytest.mark.slow
def test_each_kind_is_told_of_redis_and_of_files(kept: Callable[[str], Section]) -> None:
    main(users=50, items=100, save=True)
    section = kept("stored_bytes")
    kinds = [
        f"{kind}, D = {dim}"
        for dim in (64, 192)
        for kind in ("users of 40 pairs", "users of log-normal pairs", "items")
    ]
    wanted = ["≤ 1.15 / ≤ 1.08", "≤ 1.15 / ≤ 1.08", "≤ 1.1 / ≤ 1.05"] * 2
    in_memory, on_disk = section.figures[:6], section.figures[6:]
    assert [(figure.name, figure.wanted) for figure in in_memory] == list(
        zip(kinds, wanted, strict=True)
    )
    assert [figure.name for figure in on_disk] == [f"{kind}, in files" for kind in kinds]
    assert all(1 < figure.median < in_memory[k].median for k, figure in enumerate(on_disk[:2]))
