"""A join and its floor take the same input and write the same table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench import join
from bench.join import main, section, write_alone, write_store, write_table
from bench.results import Section
from bench.world import Shape

FEW = Shape(users=50, items=30, pairs=3, categories=4, dim=8)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "SHAPE", FEW)
    monkeypatch.setattr(join, "CHUNK", 7)


def test_a_join_is_as_fast_as_its_floor_or_slower() -> None:
    seconds = {"join": [4.0, 5.0], "floor": [2.0, 3.0]}
    rate, memory, beside, rows = section(seconds, [50, 55, 60], 100, [1.2, 1.6]).figures
    assert rate.values == [0.5, 0.6]
    assert rate.bounds == "≥ 0.5 / ≥ 0.7"
    assert memory.values == [1.1, 1.2]
    assert (beside.values, beside.verdict) == ([1.2, 1.6], "met")
    assert rows.values == [25.0, 20.0]


@pytest.mark.slow
def test_both_write_the_same_table(tmp_path: Path) -> None:
    store = f"file:{tmp_path / 'store'}"
    write_store(store, FEW)
    source = write_table(tmp_path / "in", 1000, FEW)
    _, peak = join.join(store, source, tmp_path / "out")
    assert peak > 0
    assert write_alone(source, tmp_path / "out", tmp_path / "floor") > 0
    joined, floor = (pq.ParquetFile(tmp_path / name) for name in ("out", "floor"))
    assert joined.schema_arrow.equals(floor.schema_arrow, check_metadata=True)
    assert joined.metadata.num_row_groups == floor.metadata.num_row_groups
    statuses = set(map(tuple, joined.read()["status"].to_pylist()))
    assert (1, 1, 1, 1) in statuses


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk")
def test_few_rows_are_measured(
    kept: Callable[[str], Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "ON_REDIS", FEW)
    monkeypatch.setattr(join, "ROWS_ON_REDIS", 500_000)
    monkeypatch.setattr(join, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(join, "SECONDS", 1)
    main(rows=500, rounds=1, save=True)
    assert all(figure.median > 0 for figure in kept("join").figures)
