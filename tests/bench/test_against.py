"""Two checkouts are asked in turns, each running its own code on a store of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import against
from bench.against import (
    ALONE,
    CASES,
    SHAPES,
    STORED_F16,
    STORED_OTHERWISE,
    Start,
    main,
    section,
)
from bench.results import Section
from tests.bench.loads import TINY, a_load


def a_section() -> Section:
    """Make up two rounds: 1 and 2 ms of CPU time here, 2 and 2 there, p50 likewise."""
    loads = {(name, "there"): [a_load(cpu_ms=2.0, p50_ms=2.0)] * 2 for name in CASES}
    for name in CASES:
        loads[name, "here"] = [a_load(cpu_ms=1.0, p50_ms=1.0), a_load(cpu_ms=2.0, p50_ms=2.0)]
    for name in STORED_OTHERWISE:
        loads[name, "here"] = [a_load(cpu_ms=1.1), a_load(cpu_ms=2.2)]
    return section(loads, {"here": [Start(1.0, 60.0)], "there": [Start(4.0, 200.0)]})


def test_ratios_are_of_runs_of_the_same_round() -> None:
    figures = {figure.name: figure for figure in a_section().figures}
    assert figures["CPU time to the commit before, B = 50"].values == [0.5, 1.0]
    assert figures["p50 to the commit before, B = 50"].values == [0.5, 1.0]
    assert figures["p50 against Feast's, to the commit before"].values == [2.0, 1.0]
    assert figures["start to ready, embedded, to the commit before"].values == [0.25]
    assert figures["memory of a ready worker, tiny store, to the commit before"].values == [0.3]
    for name in STORED_OTHERWISE:
        assert figures[f"CPU time, {name}, to stored f16"].values == pytest.approx([1.1, 1.1])


def test_every_shape_is_to_be_no_slower() -> None:
    figures = {figure.name: figure for figure in a_section().figures}
    for name in CASES:
        assert figures[f"CPU time to the commit before, {name}"].bounds == "≤ 1.03"


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk", "_same_cores")
def test_a_checkout_is_compared_with_a_copy(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "SEVERAL_USERS", 3)
    monkeypatch.setattr(against, "BODIES", 10)
    for version, shape in SHAPES.items():
        monkeypatch.setitem(SHAPES, version, replace(TINY, dtype=shape.dtype))
    monkeypatch.delitem(SHAPES, "wide")
    few = {name: CASES[name] for name in (ALONE, STORED_F16, *STORED_OTHERWISE)}
    few |= {case.reshape.__name__: case for case in CASES.values() if case.version in SHAPES}
    few |= {name: CASES[name] for name in ("B = 500, factored", "B = 500, JSON columns")}
    monkeypatch.setattr(against, "CASES", few)
    main(copy, rounds=1, seconds=1)
    told = capsys.readouterr().out
    for name in few:
        assert f"CPU time to the commit before, {name} " in told
