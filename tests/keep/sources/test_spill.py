from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from keep.errors import LogSchemaError
from keep.sources.spill import MAX_DAYS, DaySpill, split_days, stray_days


def test_rows_come_back_by_day_in_the_order_they_came(tmp_path: Path) -> None:
    with DaySpill(tmp_path / "log") as spill:
        spill.add(Path("a"), np.array([5, -1, 5]), pa.table({"value": [1, 2, 3]}))
        spill.add(Path("b"), np.array([5, 7]), pa.table({"value": [4, 5]}))
        assert spill.days() == (-1, 5, 7)
        assert spill.rows() == {-1: 1, 5: 3, 7: 1}
        assert spill.columns(5)["value"].tolist() == [1, 3, 4]
        assert spill.columns(-1)["value"].tolist() == [2]
    assert list(tmp_path.iterdir()) == []


def test_too_many_days_are_refused(tmp_path: Path) -> None:
    days = np.arange(MAX_DAYS + 1)
    with DaySpill(tmp_path / "log") as spill, pytest.raises(LogSchemaError, match="more than 800"):
        spill.add(Path("a"), days, pa.table({"value": days}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("days", "split"),
    [
        ((1, 2, 3, 4, 5), (2, (3, 4), 5)),
        ((1, 2, 9), (1, (2,), 9)),
        ((3, 4), (3, (), 4)),
        ((3,), (2, (), 3)),
    ],
)
def test_the_last_day_tests_and_up_to_two_before_it_train(
    days: tuple[int, ...], split: tuple[int, tuple[int, ...], int]
) -> None:
    assert split_days(days) == split


@pytest.mark.parametrize(
    ("rows", "first", "last"),
    [
        ({1: 1}, [], []),
        ({1: 1, 100: 1}, [], []),  # nobody knows which of them is wrong
        ({1: 500, 2: 500, 3: 1}, [], [3]),  # a day cut off
        ({1: 500, 2: 500, 3: 6}, [], []),
        ({1: 500, 2: 500, 40: 9}, [], [40]),  # beyond a gap
        ({1: 500, 2: 500, 40: 11}, [], []),
        ({1: 1, 50: 500, 51: 500, 200: 2, 201: 3}, [1], [201, 200]),
        (dict.fromkeys(range(1, 801), 100), [], []),  # each less than a hundredth of all
    ],
)
def test_days_that_hardly_a_row_is_of_are_found_at_both_ends(
    rows: dict[int, int], first: list[int], last: list[int]
) -> None:
    assert stray_days(rows, last=False) == first
    assert stray_days(rows, last=True) == last
