from __future__ import annotations

import re
from pathlib import Path

import pytest

from keep.errors import SourceFormatError
from keep.log import Day, Log, open_log
from keep.sources.actions import ActionOptions
from keep.sources.jd import import_jd

ACTIONS_2016 = """user_id,sku_id,time,model_id,type,cate,brand
266079.0,138778,2016-01-31 23:59:02,,1,8,403
266079.0,138778,2016-01-31 23:59:03,0.0,6,8,403
200719.0,61226,2016-02-01 00:00:07,216.0,4,8,30
200719.0,61226,2016-02-01 00:00:09,,2,8,30
200719.0,72348,2016-02-01 00:01:09,217.0,3,5,33
200719.0,72349,2016-02-01 00:01:09,217.0,5,5,33
263587.0,999999,2016-02-02 10:00:00,217.0,1,4,77
"""
PRODUCTS_2016 = """sku_id,a1,a2,a3,cate,brand
138778,3,1,1,8,489
61226,1,1,1,8,30
"""
ACTIONS_2019 = """user_id,sku_id,action_time,module_id,type
937922,357022,2018-02-04 08:28:15,7993217,1
937922,357022,2018-02-04 08:29:15.0,7993217,5
1369568,271909,2018-02-05 19:59:31,8888888,2
1369568,271909,2018-02-05 20:59:31,8888888,4
"""
PRODUCTS_2019 = """sku_id,brand,shop_id,cate,market_time
357022,1084,8308,31,2018-01-01 00:00:00.0
271909,10301,6521,9,
"""


def _ignore(amount: int) -> None:
    """Take progress and show nothing."""
    assert amount >= 0


def _import(tmp_path: Path, *texts: str, negatives: int = 0) -> Log:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.csv")
        files[-1].write_text(text)
    options = ActionOptions(negatives=negatives)
    import_jd(files, tmp_path / "log", options, (None, None), _ignore)
    return open_log(tmp_path / "log")


def _rows(day: Day) -> list[tuple[int, int, int, int, bool, bool, bool]]:
    columns = (day.user, day.item, day.shop, day.category, day.click, day.cart, day.conversion)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [tuple(row) for row in rows]


def test_the_log_of_2016_with_its_products(tmp_path: Path) -> None:
    log = _import(tmp_path, ACTIONS_2016, PRODUCTS_2016)
    assert log.info.days == (1, 2, 3)
    assert log.info.params["first_date"] == "2016-01-31"
    assert _rows(log.day(1)) == [(266079, 138778, 489, 8, True, False, False)]
    assert _rows(log.day(2)) == [(200719, 61226, 30, 8, True, True, True)]
    # An item that the product table lacks keeps the action's own brand and category.
    assert _rows(log.day(3)) == [(263587, 999999, 77, 4, True, False, False)]


def test_the_log_of_2016_needs_no_product_table(tmp_path: Path) -> None:
    log = _import(tmp_path, ACTIONS_2016)
    assert _rows(log.day(1)) == [(266079, 138778, 403, 8, True, False, False)]


def test_the_log_of_2019_has_other_types_and_shops(tmp_path: Path) -> None:
    log = _import(tmp_path, PRODUCTS_2019, ACTIONS_2019)
    assert log.info.days == (1, 2)
    assert _rows(log.day(1)) == [(937922, 357022, 8308, 31, True, True, False)]
    assert _rows(log.day(2)) == [(1369568, 271909, 6521, 9, True, False, True)]
    assert "2019" in log.info.source


def test_times_are_those_of_china(tmp_path: Path) -> None:
    log = _import(tmp_path, ACTIONS_2019)
    assert log.day(1).time.tolist() == [1_517_704_095]  # 2018-02-04 00:28:15 UTC
    assert _rows(log.day(1))[0][2:4] == (0, 0)  # no product table, no shop


def test_months_in_several_files_are_one_log(tmp_path: Path) -> None:
    later = ACTIONS_2016.replace("2016-02", "2016-03").replace("2016-01-31", "2016-03-01")
    log = _import(tmp_path, later, ACTIONS_2016)
    assert log.info.days == (1, 2, 3, 31, 32)
    assert log.info.rows == 6


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((PRODUCTS_2016,), "no file given has a user_id column"),
        ((ACTIONS_2016, ACTIONS_2019), "of both 2016 and 2019"),
        ((ACTIONS_2016, "a,b\n1,2\n"), "neither a user_id nor a sku_id column"),
        ((ACTIONS_2016.replace("type", "kind"),), "has no column 'type'"),
        ((ACTIONS_2019.replace("action_time", "when"),), "has no column 'action_time'"),
        ((ACTIONS_2016.replace(",4,8,30", ",9,8,30"),), "line 4, column 'type': is none of"),
        ((ACTIONS_2019.replace("08:28:15", "half past"),), "line 2, column 'action_time'"),
        ((ACTIONS_2016.replace("263587.0", "0.5"),), "line 8, column 'user_id': is not a whole"),
        ((ACTIONS_2016.replace("200719.0", ""),), "line 4, column 'user_id': is empty"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(SourceFormatError, match=message):
        _import(tmp_path, *texts)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    "time",
    [
        "2018-02-30 00:00:00",
        "2018-02-01 24:00:00",
        "2018-02-01 00:00:60",
        "2018-02-01 00:00:00xyz",
        "2018-02-01 00:00:00 ",
        "2018-02-01 00:00:00+08:00",
        "2018-02-01 00:00:00.",
        "2018-2-1 00:00:00",
        "2018-02-01T00:00:00",
        "2018-02-01",
    ],
)
def test_a_time_that_there_is_not_is_shown(tmp_path: Path, time: str) -> None:
    message = f"line 2, column 'action_time': {time!r} is no time as YYYY-MM-DD HH:MM:SS"
    with pytest.raises(SourceFormatError, match=re.escape(message)):
        _import(tmp_path, ACTIONS_2019.replace("2018-02-04 08:28:15", time))


def test_times_outside_of_the_dates_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "actions.csv"
    header, row, *_ = ACTIONS_2019.splitlines()
    years = ("1969", "2018", "2100")
    file.write_text("\n".join([header, *(row.replace("2018", year) for year in years)]))
    assert import_jd([file], tmp_path / "log", ActionOptions(), (0, 20_000), _ignore) == 2
    assert open_log(tmp_path / "log").info.days == (1,)


def test_one_wrong_time_does_not_decide_the_days(tmp_path: Path) -> None:
    header, row, *_ = ACTIONS_2016.splitlines()
    late = row.replace("2016-01-31", "2026-12-31")
    with pytest.raises(SourceFormatError, match="only 1 of 151 actions are after 2016-01-31"):
        _import(tmp_path, "\n".join([header, *[row] * 150, late]))
    with pytest.raises(SourceFormatError, match="column 'time': is after the year 2099"):
        _import(tmp_path, "\n".join([header, row.replace("2016", "9999")]))
