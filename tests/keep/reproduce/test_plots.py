"""Pictures: one for each table, with what the results say in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from keep.reproduce import plots
from tests.keep.reproduce.planted import planted_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return planted_results(tmp_path_factory.mktemp("run"))


def test_every_table_has_a_picture(results: dict[str, Any], tmp_path: Path) -> None:
    paths = plots.draw_plots(results, tmp_path / "plots")
    names = ["table-2", "table-6", "table-7", "table-7-gauc", "table-8"]
    assert [path.stem for path in paths] == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert "matplotlib.pyplot" not in sys.modules


def test_a_point_lies_at_its_rows_lift(results: dict[str, Any]) -> None:
    rows = results["tables"]["2"]["rows"][1:]
    axes = plots._lifts(rows, "Table 2", "planted").axes[0]
    ours = axes.lines[0].get_xdata()
    assert np.asarray(ours).tolist() == [row["lift"] for row in rows]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["CoNet", "KEEP", "Oracle"]
    (intervals,) = axes.collections
    assert isinstance(intervals, LineCollection)
    assert len(intervals.get_segments()) == 3
    papers = next(line for line in axes.lines if line.get_label() == "paper")
    assert np.asarray(papers.get_xdata()).tolist() == [0.0027, 0.0070]


def test_a_table_without_a_lift_has_no_picture(results: dict[str, Any], tmp_path: Path) -> None:
    only_base = {"2": {"rows": results["tables"]["2"]["rows"][:1]}}
    assert plots.draw_plots({**results, "tables": only_base}, tmp_path) == []
