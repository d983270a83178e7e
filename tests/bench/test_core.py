"""The core of two checkouts is timed in turns, and the functions of a request are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import calls, core
from bench.core import CASES, MOST_CALLS, main, section
from tests.bench.loads import TINY


def test_times_are_ratios_of_the_same_round_and_calls_a_sum() -> None:
    times = {name: [(1e-6, 2e-6), (3e-6, 4e-6)] for name in CASES}
    here, there = {"ours": [["a", 70], ["b", 4]]}, {"ours": [["c", 149]]}
    found = section(times, here, there)
    figures = {figure.name: figure for figure in found.figures}
    assert figures["in process, B = 50: time to the commit before"].values == [0.5, 0.75]
    assert figures["in process, B = 50"].values == pytest.approx([1, 3])
    passed = figures["functions of gkc that a request of 500 rows passes"]
    assert (passed.values, passed.target, passed.verdict) == ([74], MOST_CALLS, "met")
    assert "passed 149 functions" in found.notes[0]


@pytest.mark.slow
@pytest.mark.usefixtures("_same_cores")
def test_a_checkout_is_compared_with_a_copy(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "SHAPE", TINY)
    monkeypatch.setattr(core, "WARM", 2)
    monkeypatch.setattr(core, "CASES", {n: replace(case, rows=5) for n, case in CASES.items()})
    main(copy, rounds=1)
    told = capsys.readouterr().out
    for name in CASES:
        assert f"in process, {name}: time to the commit before" in told


@pytest.mark.slow
def test_functions_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "SHAPE", TINY)
    monkeypatch.setattr("sys.argv", ["bench.calls"])
    calls.main()
    told = capsys.readouterr().out
    assert "calls in gkc" in told
    assert "plan.Plan.lay" in told
