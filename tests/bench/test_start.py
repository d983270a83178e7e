"""A start is timed for each kind of store; workers count once they have their tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.stage import Stage
from bench.start import FEW, KINDS, WORKERS, count_loaded, measure, section
from bench.world import Shape, export


def test_workers_that_loaded_are_counted_in_a_log_that_is_being_written(tmp_path: Path) -> None:
    loaded = '{"event": "generation_loaded", "generation": "1-a"}\n'
    text = '{"event": "mirror_built", "seconds": 1}\nsome warning\n' + loaded + loaded
    log = tmp_path / "log"
    log.write_text(text)
    assert count_loaded(log) == 2
    log.write_text(text + loaded[:-5])
    assert count_loaded(log) == 2


def test_workers_are_set_against_one_of_their_round() -> None:
    found = {(kind, items): [1.0, 3.0] for kind in KINDS for items in (FEW, 5000)}
    found |= {("1", 5000): [100.0, 50.0], (str(WORKERS), 5000): [150.0, 100.0]}
    told = section(found, 5000)
    names = [figure.name for figure in told.figures]
    assert len(names) == len(set(names))
    assert told.figures[-1].values == [1.5, 2.0]
    (curve,) = told.curves
    assert curve.title == "5,000 items are served 2.0 s after a start at the latest"


@pytest.mark.slow
def test_starts_and_memory_of_a_small_store() -> None:
    with Stage() as stage:
        store = f"file:{stage.folder}/store"
        export(stage.folder / "bundle", Shape(users=10, items=FEW, pairs=2), store)
        found = measure(stage, {FEW: {"embedded": store, "Redis": store}}, rounds=1)
    assert found.keys() == {(name, FEW) for name in (*KINDS, "1", str(WORKERS))}
    assert all(value > 0 for values in found.values() for value in values)
