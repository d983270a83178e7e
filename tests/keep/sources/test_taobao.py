from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keep.errors import LogSchemaError, SourceFormatError
from keep.log import Log, open_log
from keep.sources.actions import ActionOptions, Bounds
from keep.sources.taobao import import_taobao

NOON = 1_511_539_200 + 12 * 3600  # 2017-11-25 12:00 in China, 04:00 UTC
DAY = 86_400

LINES = [
    f"1,100,7,pv,{NOON}",
    f"1,100,7,cart,{NOON + 60}",
    f"1,100,7,pv,{NOON - 60}",
    f"1,101,7,buy,{NOON + 5}",
    f"1,102,8,fav,{NOON + 6}",
    f"2,103,8,pv,{NOON}",
    f"2,104,8,pv,{NOON + 1}",
    f"2,100,7,pv,{NOON + DAY}",
    f"1,103,8,pv,{NOON + DAY}",
    f"1,103,8,buy,{NOON + DAY}",
    f"1,100,7,pv,{NOON + 2 * DAY}",
    f"2,104,8,pv,{NOON + 3 * DAY}",
]


def _ignore(amount: int) -> None:
    """Take progress and show nothing."""
    assert amount >= 0


def _log(
    tmp_path: Path,
    lines: list[str] = LINES,
    options: ActionOptions | None = None,
    bounds: Bounds = (None, None),
) -> Log:
    file = tmp_path / "UserBehavior.csv"
    file.write_text("".join(line + "\n" for line in lines))
    import_taobao(file, tmp_path / "log", options or ActionOptions(), bounds, _ignore)
    return open_log(tmp_path / "log")


def _clicked(log: Log, day: int) -> list[tuple[int, int, int, bool, bool]]:
    found = log.day(day)
    rows = zip(found.user, found.item, found.time, found.cart, found.conversion, strict=True)
    return [
        (int(user), int(item), int(time), bool(cart), bool(bought))
        for (user, item, time, cart, bought), click in zip(rows, found.click, strict=True)
        if click
    ]


def test_actions_of_a_day_join_into_one_click_per_user_and_item(tmp_path: Path) -> None:
    log = _log(tmp_path)
    assert _clicked(log, 1) == [
        (1, 100, NOON - 60, True, False),
        (1, 101, NOON + 5, False, True),
        (2, 103, NOON, False, False),
        (2, 104, NOON + 1, False, False),
    ]
    assert _clicked(log, 2) == [(1, 103, NOON + DAY, False, True), (2, 100, NOON + DAY, False, 0)]


def test_favourites_are_left_out(tmp_path: Path) -> None:
    log = _log(tmp_path)
    assert all(102 not in log.day(day).item for day in log.info.days)


def test_drawn_impressions_are_items_of_the_day_that_the_user_did_not_click(tmp_path: Path) -> None:
    log = _log(tmp_path)
    day = log.day(1)
    drawn = ~day.click
    assert drawn.sum() > 0
    assert set(day.item[drawn & (day.user == 1)]) <= {103, 104}
    assert set(day.item[drawn & (day.user == 2)]) <= {100, 101}
    pairs = list(zip(day.user.tolist(), day.item.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert dict(zip(day.item.tolist(), day.category.tolist(), strict=True)) == {
        100: 7,
        101: 7,
        103: 8,
        104: 8,
    }


def test_a_day_that_ends_at_midnight_in_china(tmp_path: Path) -> None:
    midnight = NOON + 12 * 3600
    log = _log(tmp_path, [f"1,100,7,pv,{midnight - 1}", f"1,100,7,pv,{midnight}"])
    assert log.info.days == (1, 2)
    assert log.info.params["first_date"] == "2017-11-25"


def test_days_are_split_into_pretraining_training_and_test(tmp_path: Path) -> None:
    info = _log(tmp_path).info
    assert info.days == (1, 2, 3, 4)
    assert (info.pretrain_until, info.train_days, info.test_day) == (1, (2, 3), 4)


def test_the_sub_domain_is_chosen_by_category(tmp_path: Path) -> None:
    log = _log(tmp_path, options=ActionOptions(sub_domain_categories=(8,)))
    for day in log.days(1, 4):
        np.testing.assert_array_equal(day.sub_domain, day.category == 8)
    assert "chosen categories 8" in log.info.source


def test_the_default_sub_domain_is_the_most_clicked_categories(tmp_path: Path) -> None:
    lines = [f"{user},{user % 7},{user % 7},pv,{NOON + user}" for user in range(100)]
    lines += [f"{user},50,50,pv,{NOON + user}" for user in range(10)]
    log = _log(tmp_path, lines)
    # Categories 0 and 1 have 15 clicks each; 22 of 110 are a fifth.
    assert log.info.params["sub_domain_categories"] == [0, 1]


def test_the_same_seed_gives_the_same_log(tmp_path: Path) -> None:
    lines = [f"{u},{(u * k) % 40},{k},pv,{NOON + u + k}" for u in range(1, 60) for k in range(1, 6)]
    first = _log(tmp_path, lines).info.checksum
    assert _log(tmp_path, lines).info.checksum == first
    assert _log(tmp_path, lines, ActionOptions(seed=1)).info.checksum != first


def test_rows_outside_of_the_dates_are_counted_and_left_out(tmp_path: Path) -> None:
    file = tmp_path / "UserBehavior.csv"
    file.write_text(f"1,1,1,pv,{NOON}\n1,1,1,pv,-5\n1,1,1,pv,{NOON + DAY}\n1,2,1,pv,{10 * NOON}\n")
    first = (NOON + 8 * 3600) // DAY
    bounds = (first, first + 1)
    assert import_taobao(file, tmp_path / "log", ActionOptions(), bounds, _ignore) == 2
    assert open_log(tmp_path / "log").info.days == (1, 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3,view,1511539200", "line 3, column 'behavior': is none of pv, cart, buy, fav"),
        ("1,,3,pv,1511539200", "line 3, column 'item': is empty"),
        ("1,2,3,pv,-7", "line 3, column 'timestamp': is before 1970; use --first-date"),
        ("1,2,3,pv,1511539200000", "line 3, .* not milliseconds; .* use --last-date"),
        ("1,2,3,pv,4102444800", "line 3, .* the year 2099; .* use --last-date"),
        (f"1,2,3,pv,{2**63 - 1}", "line 3, column 'timestamp': .* not milliseconds"),
        ("1,2,3,pv", "Expected 5 columns, got 4"),
        ("1,two,3,pv,1511539200", "invalid value 'two'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(SourceFormatError, match=message):
        _log(tmp_path, [*LINES[:2], line, *LINES[2:]])
    assert [path.name for path in tmp_path.iterdir()] == ["UserBehavior.csv"]


@pytest.mark.parametrize("times", [NOON // 60, NOON // DAY, 20_171_125])
def test_times_that_are_no_seconds_are_refused_unless_the_date_is_named(
    tmp_path: Path, times: int
) -> None:
    lines = [f"1,{k},7,pv,{times + k}" for k in range(9)]
    with pytest.raises(SourceFormatError, match=r"all 9 actions are of 1970-.* by --first-date 19"):
        _log(tmp_path, lines)
    assert _log(tmp_path, lines, bounds=(0, None)).info.rows == 9


def test_a_file_without_a_click_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogSchemaError, match="not one action"):
        _log(tmp_path, [f"1,100,7,fav,{NOON}"])


def _with_one_of(second: int) -> list[str]:
    """A hundred and fifty actions of three days, and one far from them."""
    lines = [f"{k},{k % 9},7,pv,{NOON + k % 3 * DAY + k}" for k in range(150)]
    return [*lines, f"1,1,7,pv,{second}"]


@pytest.mark.parametrize(
    ("second", "advice"),
    [
        (2_122_867_355, "by --last-date 2017-11-27, or keep them by --last-date 2037-04-09"),
        (86_400, "by --first-date 2017-11-25, or keep them by --first-date 1970-01-02"),
    ],
)
def test_one_wrong_timestamp_does_not_decide_the_days(
    tmp_path: Path, second: int, advice: str
) -> None:
    with pytest.raises(SourceFormatError, match=f"only 1 of 151 actions.*{advice}"):
        _log(tmp_path, _with_one_of(second))
    assert [path.name for path in tmp_path.iterdir()] == ["UserBehavior.csv"]


def test_days_whose_dates_were_chosen_are_not_judged(tmp_path: Path) -> None:
    far = (2_122_867_355 + 8 * 3600) // DAY
    kept = _log(tmp_path, _with_one_of(2_122_867_355), bounds=(None, far))
    assert kept.info.test_day > 7000
    left_out = _log(tmp_path, _with_one_of(2**63 - 1), bounds=(None, far - 1))
    assert left_out.info.days == (1, 2, 3)


def test_dates_that_leave_nothing_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(SourceFormatError, match=r"all 12 rows are outside of --first-date"):
        _log(tmp_path, bounds=(20_000, None))
