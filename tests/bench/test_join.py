"""A join, its floor and its peers take the same input; the floor writes the same table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench import join
from bench.generations import publish_numbers
from bench.join import main, section, write_alone, write_table
from bench.results import Section
from tests.bench.loads import TINY


def test_ratios_are_those_of_the_same_round() -> None:
    found = {"join": [(4.0, 55.0), (5.0, 60.0)], "floor": [(2.0, 9.0), (3.0, 9.0)]}
    peers = {"pandas": {"join": [2.0, 4.0], "peer": [5.0, 8.0]}}
    rate, pandas, memory, rows = section(found, 50, 100, peers).figures
    assert (rate.values, rate.bounds) == ([0.5, 0.6], "≥ 0.5 / ≥ 0.7")
    assert (pandas.values, pandas.verdict) == ([2.5, 2.0], "met")
    assert memory.values == [1.1, 1.2]
    assert rows.values == [25.0, 20.0]


@pytest.mark.slow
def test_both_write_the_same_table(tmp_path: Path) -> None:
    store = publish_numbers(f"file:{tmp_path / 'store'}", TINY)
    source = write_table(tmp_path / "in", 1000, TINY)
    _, peak = join.join(store, source, tmp_path / "out")
    assert peak > 0
    write_alone(source, tmp_path / "out", tmp_path / "floor")
    joined, floor = (pq.ParquetFile(tmp_path / name) for name in ("out", "floor"))
    assert joined.schema_arrow.equals(floor.schema_arrow, check_metadata=True)
    assert joined.metadata.num_row_groups == floor.metadata.num_row_groups
    statuses = set(map(tuple, joined.read()["status"].to_pylist()))
    assert (1, 1, 1, 1) in statuses


@pytest.mark.slow
def test_few_rows_are_measured(
    kept: Callable[[str], Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "SHAPE", TINY)
    monkeypatch.setattr(join, "beside_peers", lambda *_: {})  # needs another environment
    main(rows=500, rounds=1, save=True)
    assert all(figure.median > 0 for figure in kept("join").figures)
