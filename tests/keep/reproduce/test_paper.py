"""The paper's figures: complete, and free of slips as far as they can check each other."""

from __future__ import annotations

import pytest

from keep.reproduce.paper import PAPER, TITLES


def test_all_tables_are_there() -> None:
    assert list(PAPER) == list(TITLES) == [str(number) for number in range(2, 9)]


@pytest.mark.parametrize("table", list(PAPER))
def test_lifts_are_differences_to_the_base_but_for_the_papers_rounding(table: str) -> None:
    rows = PAPER[table]
    for name, row in rows.items():
        base = rows.get(f"{name} Base") or rows.get("Base") or row
        assert row.lift == pytest.approx(row.gauc - base.gauc, abs=0.000101), name


def test_keep_lifts_the_same_wherever_it_is_the_same_model() -> None:
    last = [list(PAPER[table].values())[-1] for table in ("2", "3", "4")]
    assert {(row.gauc, row.lift) for row in last} == {(0.6380, 0.0070)}
    assert PAPER["5"]["CTR"] == PAPER["6"]["KEEP (2 years)"] == PAPER["8"]["KEEP"]


def test_both_strategies_together_keep_88_percent() -> None:
    kept = PAPER["8"]["decomposition + degeneration"].lift / PAPER["8"]["KEEP"].lift
    assert round(kept, 2) == 0.88
