"""What is told is kept whole, and judged by the median."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import results
from bench.results import Curve, Figure, Section, read_section, tell


@pytest.mark.parametrize(
    ("values", "at_most", "verdict"),
    [
        ([0.8, 0.9, 0.1], False, "met"),
        ([0.95, 0.9, 2.0], False, "stretch"),
        ([0.6, 0.9, 0.2], False, "missed"),
        ([0.7], False, "met"),
        ([0.7], True, "stretch"),
        ([0.8, 0.1, 0.9], True, "stretch"),
        ([0.95, 0.1, 0.9], True, "missed"),
    ],
)
def test_the_median_is_judged(values: list[float], at_most: bool, verdict: str) -> None:
    bounds = (0.85, 0.8) if at_most else (0.7, 0.95)
    figure = Figure("x", values, target=bounds[0], stretch=bounds[1], at_most=at_most)
    assert figure.verdict == verdict
    assert figure.bounds.startswith("≤" if at_most else "≥")


def test_without_a_target_nothing_is_judged() -> None:
    assert Figure("x", [1.0]).verdict == ""
    assert Figure("x", [1.0]).bounds == ""


def test_what_is_told_is_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "performance")
    section = Section(
        module="bench.made_up",
        title="Made up",
        method="By hand.",
        figures=[Figure("speed", [2.0, 1.0, 3.0], target=1.5, stretch=4.0)],
        curves=[Curve("made-up", "Growth", "rows", "ms", {"line": [(1, [0.5, 0.7])]})],
        notes=["a note"],
    )
    tell(section, save=True)
    told = capsys.readouterr().out
    assert "2.00 (1.00 to 3.00) times" in told
    assert "met" in told
    assert "a note" in told
    kept = read_section(tmp_path / "performance" / "made_up.json")
    assert kept.circumstances["command"].startswith("python -m bench.made_up")
    assert kept.figures == section.figures
    assert kept.title == section.title
    ((x, values),) = kept.curves[0].lines["line"]
    assert (x, values) == (1, [0.5, 0.7])
