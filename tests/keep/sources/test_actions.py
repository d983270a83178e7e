from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keep.sources.actions import calendar_day, clicked_impressions, with_drawn, within

USERS, ITEMS = 40, 60


def _clicked() -> dict[str, NDArray[Any]]:
    """A day on which low item numbers are clicked most."""
    rng = np.random.default_rng(3)
    item = np.minimum(rng.geometric(0.08, 600), ITEMS)
    rows = {
        "user": rng.integers(0, USERS, 600) * 10**16 - 2 * 10**17,
        "item": item,
        "shop": item % 5,
        "category": item % 7,
        "time": rng.integers(0, 86_400, 600),
        "kind": rng.integers(0, 3, 600),
    }
    return clicked_impressions(rows)


def _drawn(negatives: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    parts = list(with_drawn(_clicked(), negatives, np.random.default_rng(seed)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_clicked_impressions_are_kept_as_they_are() -> None:
    clicked, rows = _clicked(), _drawn(4)
    for name, column in clicked.items():
        np.testing.assert_array_equal(rows[name][rows["click"]], column)


def test_no_user_is_shown_an_item_twice_nor_one_that_was_clicked() -> None:
    rows = _drawn(4)
    pairs = list(zip(rows["user"].tolist(), rows["item"].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_at_most_the_number_asked_for_is_drawn_per_click() -> None:
    clicked = len(_clicked()["user"])
    assert clicked < (~_drawn(2)["click"]).sum() <= 2 * clicked
    assert (~_drawn(0)["click"]).sum() == 0


def test_drawn_impressions_follow_their_click_in_time_and_have_no_labels() -> None:
    rows = _drawn(3)
    click = np.flatnonzero(rows["click"])
    owner = click[np.searchsorted(click, np.arange(len(rows["click"])), side="right") - 1]
    np.testing.assert_array_equal(rows["time"], rows["time"][owner])
    np.testing.assert_array_equal(rows["user"], rows["user"][owner])
    assert not (rows["cart"] | rows["conversion"])[~rows["click"]].any()
    np.testing.assert_array_equal(rows["category"], rows["item"] % 7)
    np.testing.assert_array_equal(rows["shop"], rows["item"] % 5)


def test_items_are_drawn_in_proportion_to_their_clicks() -> None:
    # One click a user among many users: hardly any item is excluded.
    rng = np.random.default_rng(0)
    item = np.where(np.arange(8000) % 4 == 0, 1, 2 + rng.integers(0, 3, 8000))
    zeros = np.zeros(8000, dtype=np.int64)
    clicked = clicked_impressions(
        {
            "user": np.arange(8000),
            "item": item,
            "shop": zeros,
            "category": zeros,
            "time": zeros,
            "kind": zeros,
        }
    )
    (part,) = with_drawn(clicked, 1, np.random.default_rng(1))
    others = part["item"][~part["click"]]
    # A user who clicked one of the other three (75 %, equally likely) sees item 1 with 1/3.
    share = float((others == 1).mean())
    assert abs(share - 0.75 * (0.25 / 0.75)) < 0.02


def test_days_change_at_midnight_in_china() -> None:
    times = np.array([0, 16 * 3600 - 1, 16 * 3600, 86_400])
    assert calendar_day(times).tolist() == [0, 0, 1, 1]


def test_bounds_are_inclusive_and_optional() -> None:
    day = np.array([1, 2, 3])
    assert within(day, (None, None)).tolist() == [True, True, True]
    assert within(day, (2, None)).tolist() == [False, True, True]
    assert within(day, (None, 2)).tolist() == [True, True, False]
