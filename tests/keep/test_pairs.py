"""Pairs to distil over: never shown, and some users and items never drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keep.checkpoint import Pretraining
from keep.features import UNKNOWN, Features
from keep.log import Log
from keep.pairs import FreePairs, Shown, Side, shown_until
from tests.keep.tiny import ITEMS, USERS, tiny_days


@pytest.fixture(scope="module")
def features() -> Features:
    features = Features(5)
    for day in tiny_days().values():
        features.grow(day)
    return features


def test_shown_are_the_impressions_up_to_the_day(state: Pretraining, log: Log) -> None:
    features = state.features
    found = shown_until(features, log, 3)
    pairs, users, items = set(), [0] * len(features.users), [0] * len(features.items)
    for number in (1, 2, 3):
        rows = features.encode(log.day(number))
        for user, (item, _, _) in zip(rows.user.tolist(), rows.item.tolist(), strict=True):
            pairs.add(user * len(features.items) + item)
            users[user] += 1
            items[item] += 1
    assert found.pairs.tolist() == sorted(pairs)
    assert (found.users.tolist(), found.items.tolist()) == (users, items)


def test_half_is_drawn_by_impressions_half_uniformly() -> None:
    impressions = np.array([0, 0, 0, 30, 10])
    side, rng = Side(np.array([2, 3, 4]), impressions), np.random.default_rng(1)
    drawn = [row for _ in range(6000) for row in side.draw(1, rng)]
    shares = np.bincount(drawn, minlength=5)[2:] / len(drawn)
    np.testing.assert_allclose(shares, [1 / 6, 1 / 6 + 3 / 8, 1 / 6 + 1 / 8], atol=0.02)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), users=st.integers(1, 60), items=st.integers(1, 60))
def test_what_is_held_out_is_never_drawn_and_what_was_shown_is_marked(
    features: Features, seed: int, users: int, items: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (len(features.users), len(features.items))
    impressions = rng.integers(0, 2, shape) * rng.integers(0, 5, shape)
    impressions[: UNKNOWN + 1], impressions[:, : UNKNOWN + 1] = 0, 0
    shown = Shown(impressions.sum(axis=1), impressions.sum(axis=0), np.flatnonzero(impressions))
    pairs = FreePairs(features, shown, rng)
    assert (len(pairs.held_users.rows), len(pairs.held_items.rows)) == (USERS // 10, ITEMS // 10)
    for side, held, known in (
        (pairs.users, pairs.held_users, shape[0]),
        (pairs.items, pairs.held_items, shape[1]),
    ):
        both = np.concatenate([side.rows, held.rows])
        assert sorted(both.tolist()) == list(range(UNKNOWN + 1, known))
    for _ in range(5):
        block = pairs.training_block(users, items, rng)
        assert not np.isin(block.users, pairs.held_users.rows).any()
        assert not np.isin(block.items[:, 0], pairs.held_items.rows).any()
        assert (block.free == (impressions[block.users][:, block.items[:, 0]] == 0)).all()
        assert (block.items[:, 1] == features.item_shop[block.items[:, 0]]).all()
        assert (block.items[:, 2] == features.item_category[block.items[:, 0]]).all()
    block = pairs.test_block(users, items, rng)
    assert np.isin(block.users, pairs.held_users.rows).any()
    assert np.isin(block.users, pairs.users.rows).any()


def test_a_category_s_most_shown_items_are_none_that_are_held_out(
    state: Pretraining, log: Log
) -> None:
    features = state.features
    shown = shown_until(features, log, 3)
    pairs = FreePairs(features, shown, np.random.default_rng(1))
    for category, found in enumerate(pairs.most_shown(3).tolist()):
        items = [item for item in pairs.items.rows if features.item_category[item] == category]
        items.sort(key=lambda item: -shown.items[item])
        assert found == [*items, 0, 0, 0][:3]
