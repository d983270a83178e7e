"""Ids to rows, behaviours of earlier days only, partners of the opposite label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep.features import (
    PADDING,
    UNKNOWN,
    Features,
    Rows,
    Vocabulary,
    click_batch,
    draw_partners,
    make_batch,
    training_batches,
)
from keep.log import Day
from tests.keep.tiny import CONFIG, tiny_days

IDS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30)


@given(IDS, IDS, IDS)
def test_vocabulary_is_a_dict_that_only_grows(
    first: list[int], second: list[int], asked: list[int]
) -> None:
    vocabulary, slow = Vocabulary(), dict[int, int]()
    for ids in (first, second):
        vocabulary.grow(np.array(ids, dtype=np.int64))
        for new in sorted(set(ids) - set(slow)):
            slow[new] = len(slow) + 2
    wanted = np.array(asked + first + second, dtype=np.int64)
    assert vocabulary.rows(wanted).tolist() == [slow.get(int(one), UNKNOWN) for one in wanted]
    assert len(vocabulary) == len(slow) + 2


def remembered(days: list[Day], length: int) -> Features:
    features = Features(length)
    for day in days:
        features.grow(day)
        features.observe(day)
    return features


def test_history_is_the_latest_clicks_in_order_of_time() -> None:
    days = list(tiny_days().values())[:3]
    features = remembered(days, length=5)
    slow: dict[int, list[int]] = {}
    for day in days:
        for row in np.argsort(day.time, kind="stable"):
            if day.click[row]:
                slow.setdefault(int(day.user[row]), []).append(int(day.item[row]))
    for user, clicks in slow.items():
        line = features.history[features.users.rows(np.array([user]))[0]]
        expected = features.items.rows(np.array(clicks[-5:])).tolist()
        assert line.tolist() == [PADDING] * (5 - len(expected)) + expected


def test_clicks_of_one_user_beyond_the_length_push_out_all_older_ones() -> None:
    day = tiny_days()[1]
    one = replace(day, user=np.full_like(day.user, 3), click=np.ones_like(day.click))
    features = remembered([one, one], length=5)
    expected = features.items.rows(one.item[-5:])
    assert features.history[2].tolist() == expected.tolist()


def test_a_sample_s_behaviours_are_clicks_of_earlier_days_only() -> None:
    days = tiny_days()
    features = remembered([days[1]], length=5)
    features.grow(days[2])
    before = features.history.copy()
    rows = features.encode(days[2])
    rng = np.random.default_rng(0)
    for batch in training_batches(rows, features, replace(CONFIG, unknown_rate=0.0), rng):
        assert np.array_equal(batch.behaviours.numpy(), before[batch.user.numpy()])


def test_items_know_the_shop_and_category_they_were_last_seen_with() -> None:
    day = tiny_days()[1]
    features = remembered([day, replace(day, shop=day.shop + 1)], length=5)
    items = features.items.rows(day.item)
    assert np.array_equal(features.item_shop[items], features.shops.rows(day.shop + 1))
    assert np.array_equal(features.item_category[items], features.categories.rows(day.category))
    assert (features.item_shop[PADDING], features.item_shop[UNKNOWN]) == (PADDING, UNKNOWN)


def test_shown_counts_impressions_of_each_category() -> None:
    days = list(tiny_days().values())[:2]
    features = remembered(days, length=5)
    for category in (0, 10, 20, 30, 40):
        row = features.categories.rows(np.array([category]))[0]
        assert features.shown[row] == sum((day.category == category).sum() for day in days)


def test_ids_that_no_day_has_shown_are_unknown() -> None:
    days = tiny_days()
    features = remembered([days[1]], length=5)
    rows = features.encode(replace(days[1], user=days[1].user + 1, item=days[1].item + 1))
    assert set(rows.user.tolist()) == {UNKNOWN}
    assert set(rows.item[:, 0].tolist()) == {UNKNOWN}
    assert UNKNOWN not in rows.item[:, 2]


@pytest.mark.parametrize("seed", range(3))
def test_partners_are_the_same_user_s_with_the_opposite_label(seed: int) -> None:
    features = Features(5)
    day = tiny_days(per_day=150)[1]
    features.grow(day)
    rows = features.encode(day)
    partners = draw_partners(rows, np.random.default_rng(seed))
    for task in range(3):
        for sample, partner in enumerate(partners[:, task]):
            trained = task == 0 or rows.labels[sample, 0]
            others = [
                other
                for other in range(len(rows))
                if rows.user[other] == rows.user[sample]
                and (task == 0 or rows.labels[other, 0])
                and rows.labels[other, task] != rows.labels[sample, task]
            ]
            assert (partner in others) if trained and others else (partner == -1)


def test_a_day_s_batches_hold_every_impression_once_with_its_labels() -> None:
    features = Features(5)
    day = tiny_days()[1]
    features.grow(day)
    rows = features.encode(day)
    seen = []
    config = replace(CONFIG, unknown_rate=0.0)
    for batch in training_batches(rows, features, config, np.random.default_rng(0)):
        seen += batch.samples.tolist()
        clicked = rows.labels[batch.samples, 0]
        for task in range(3):
            own = np.arange(len(clicked)) if task == 0 else np.flatnonzero(clicked)
            line, candidate = (part.numpy() for part in batch.scored[task])
            assert np.array_equal(line[: len(own)], own)
            assert np.array_equal(batch.labels[task].numpy(), rows.labels[batch.samples[own], task])
            paired = batch.paired[task].numpy()
            assert np.array_equal(line[len(own) :], own[paired])
            assert candidate.tolist() == [0] * len(own) + [1 + task] * len(paired)
        assert np.array_equal(batch.items[:, 0].numpy(), rows.item[batch.samples])
    assert sorted(seen) == list(range(len(rows)))


def test_about_one_id_in_a_hundred_becomes_unknown_and_padding_never() -> None:
    count = 20_000
    rows = Rows(
        user=np.full(count, 2),
        item=np.full((count, 3), 2),
        labels=np.zeros((count, 3), dtype=np.bool_),
    )
    features = Features(4)
    features.history = np.array([[0] * 4, [0] * 4, [0, 0, 3, 3]], dtype=np.int32)
    partners = np.full((count, 3), -1)
    rng = np.random.default_rng(0)
    batch = make_batch(rows, features, np.arange(count), partners, 0.01, rng)
    behaviours = batch.behaviours.numpy()
    for column in (batch.user.numpy(), batch.items.numpy()[:, 0], behaviours[:, 2:]):
        assert 0.005 < (column == UNKNOWN).mean() < 0.02
    assert (behaviours[:, :2] == PADDING).all()


def test_click_batch_scores_one_candidate_and_replaces_nothing() -> None:
    days = tiny_days()
    features = remembered([days[1]], length=5)
    rows = features.encode(days[1])
    batch = click_batch(rows, features, np.array([4, 2]))
    assert batch.items.shape == (2, 1, 3)
    assert np.array_equal(batch.items[:, 0].numpy(), rows.item[[4, 2]])
    assert np.array_equal(batch.behaviours.numpy(), features.history[rows.user[[4, 2]]])
