"""What a downstream model may see of a log: nothing that the test day alone tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keep.config import TASKS
from keep.data import Data
from keep.features import UNKNOWN
from tests.keep.systems.narrow import write_log
from tests.keep.tiny import tiny_days, tiny_log

BEHAVIOURS = 5


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tiny_log(tmp_path / "log"), 5, BEHAVIOURS)


def clicked_before(data: Data, number: int, user: int) -> list[int]:
    """A user's latest clicked items of the days before one, by a loop over the raw log."""
    items: list[int] = []
    for earlier in range(1, number):
        day = data.log.day(earlier)
        mine = [k for k in np.argsort(day.time, kind="stable") if day.user[k] == user]
        items += [int(day.item[k]) for k in mine if day.click[k]]
    return items[-BEHAVIOURS:]


def test_behaviours_are_the_latest_clicks_of_earlier_days_in_all_scenes(data: Data) -> None:
    for number in (1, 3, 5):
        samples = data.sub_domain(number)
        positions = np.arange(0, len(samples), 17)
        found = samples.behaviours(positions)
        assert found.shape == (len(positions), BEHAVIOURS)
        assert found.dtype == np.int64
        for position, rows in zip(positions, found, strict=True):
            expected = clicked_before(data, number, samples.day.user[position])
            assert (rows[: BEHAVIOURS - len(expected)] == 0).all()
            ids = data.features.items.ids[rows[BEHAVIOURS - len(expected) :] - 2]
            assert ids.tolist() == expected


def test_vocabularies_do_not_know_what_only_the_test_day_has(data: Data) -> None:
    test_day = data.super_domain(5)
    earlier = np.concatenate([data.log.day(number).item for number in data.days])
    new = ~np.isin(test_day.day.item, earlier)
    assert new.any()
    assert (test_day.rows.item[new, 0] == UNKNOWN).all()
    assert (test_day.rows.item[~new, 0] > UNKNOWN).all()
    assert data.sizes.items == len(np.unique(earlier)) + 2


def test_nothing_fitted_depends_on_the_test_day(tmp_path: Path, data: Data) -> None:
    days = tiny_days(flip_from=5)
    days[5] = replace(days[5], shop=days[5].shop + 1, category=days[5].category + 1)
    other = Data(write_log(tmp_path / "other", days, data.log), 5, BEHAVIOURS)
    assert other.sizes == data.sizes
    assert np.array_equal(other.features.item_shop, data.features.item_shop)
    assert np.array_equal(other.features.item_category, data.features.item_category)
    assert np.array_equal(other.features.history, data.features.history)
    ours, theirs = data.super_domain(5), other.super_domain(5)
    positions = np.arange(len(ours))
    assert np.array_equal(ours.behaviours(positions), theirs.behaviours(positions))


def test_days_before_the_test_day_ascend(data: Data) -> None:
    assert data.days == (1, 2, 3, 4)
    assert data.test_day == 5
    assert [samples.number for samples in data.super_domains((2, 4))] == [2, 4]


def test_the_sub_domain_is_part_of_the_super_domain_and_kept(data: Data) -> None:
    whole, part = data.super_domain(4), data.sub_domain(4)
    chosen = whole.day.sub_domain
    assert 0 < len(part) == chosen.sum() < len(whole) == 400
    for name, column in vars(part.day).items():
        assert np.array_equal(column, getattr(whole.day, name)[chosen])
    assert np.array_equal(part.rows.user, whole.rows.user[chosen])
    assert np.array_equal(part.rows.item, whole.rows.item[chosen])
    assert np.array_equal(part.rows.labels, whole.rows.labels[chosen])
    assert data.sub_domain(4) is part


def test_conversion_and_cart_are_defined_on_clicks(data: Data) -> None:
    samples = data.super_domain(4)
    assert samples.of_task(TASKS.index("click")) is samples
    for task in (TASKS.index("conversion"), TASKS.index("cart")):
        clicked = samples.of_task(task)
        assert len(clicked) == samples.day.click.sum()
        assert clicked.day.click.all()
        label = getattr(clicked.day, TASKS[task])
        assert np.array_equal(clicked.rows.labels[:, task], label)
        assert clicked.number == 4
