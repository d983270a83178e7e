"""docs/performance.md is that of the committed JSON, and shows what was missed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from bench import performance
from bench.performance import FIRST_PICTURE, OPENING, PAGE, draw, page, write
from bench.results import FOLDER, Curve, Figure, Section, read_section
from bench.run import MEASUREMENTS


def made_up(module: str, *figures: Figure) -> Section:
    return Section(
        module=module,
        title=f"Of {module}",
        method="By hand.",
        figures=figures,
        curves=[Curve("made-up", "Growth", "rows", "ms", {"line": [(1, [0.5]), (10, [0.7, 0.9])]})],
        notes=["a note"],
        circumstances={"command": f"python -m {module}"},
    )


def test_a_miss_stays_visible() -> None:
    section = made_up(
        "bench.x",
        Figure("fast", [3.0], target=2.0),
        Figure("slow", [1.0], target=2.0, stretch=3.0),
        Figure("only told", [1.0]),
    )
    text = page([section], "- slow: because.")
    verdicts = text[text.index("## What was to be") : text.index("## What was missed")]
    assert "fast" in verdicts
    assert "only told" not in verdicts
    assert "≥ 2 / ≥ 3" in verdicts
    assert verdicts.count("**missed**") == 1
    assert "- slow: because." in text
    assert "only told" in text[text.index("## Of bench.x") :]


def test_a_user_finds_first_what_he_wants_to_know() -> None:
    text = page(
        [
            made_up("bench.latency", Figure("p50 over HTTP, B = 500", [0.4, 0.5, 0.9], "ms")),
            made_up(
                "bench.throughput",
                *(
                    Figure(f"requests/s, B = {n}, rows", [7000.0 / n], "/s", digits=0)
                    for n in (1, 50)
                ),
            ),
        ],
        "",
    )
    opening = text[: text.index("## What was to be")]
    assert "| an answer of 500 rows takes (p50) | **0.50** ms |" in opening
    assert "| a core answers, for 1 / 50 / 500 rows | **7,000 / 140** /s |" in opening
    assert "Feast" not in opening


def test_the_first_picture_stands_there_alone() -> None:
    section = made_up("bench.growth")
    curve = dataclasses.replace(section.curves[0], name=FIRST_PICTURE)
    text = page([dataclasses.replace(section, curves=[curve])], "")
    assert text.count(f"performance/{FIRST_PICTURE}.svg") == 1
    assert text.index(FIRST_PICTURE) < text.index("## What was to be")


def test_page_and_pictures_are_the_same_each_time(tmp_path: Path) -> None:
    name = MEASUREMENTS[0]
    section = made_up(f"bench.{name}", Figure("fast", [3.0], target=2.0))
    (tmp_path / f"{name}.json").write_text(json.dumps(asdict(section)), encoding="utf-8")
    first, second = (
        [path.read_bytes() for path in write(tmp_path, tmp_path / "page.md")] for _ in range(2)
    )
    assert first == second
    assert len(first) == 2
    assert first[1].startswith(b"<?xml")


def test_without_results_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(tmp_path, tmp_path / "page.md") == []
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(performance, "write", list)
    assert performance.main() == 1
    assert capsys.readouterr().err == "no results in docs/performance\n"


def test_sections_are_in_the_order_of_the_measurements(tmp_path: Path) -> None:
    for name in reversed(MEASUREMENTS[:3]):
        section = asdict(made_up(f"bench.{name}")) | {"curves": []}
        (tmp_path / f"{name}.json").write_text(json.dumps(section), encoding="utf-8")
    (target,) = write(tmp_path, tmp_path / "page.md")
    titles = [line for line in target.read_text(encoding="utf-8").splitlines() if "## Of" in line]
    assert titles == [f"## Of bench.{name}" for name in MEASUREMENTS[:3]]


@pytest.mark.parametrize(
    ("farthest", "highest", "may_be_log", "scales"),
    [
        (29, 29.0, True, ("linear", "linear")),
        (30, 29.0, True, ("log", "linear")),
        (29, 30.0, True, ("linear", "log")),
        (30, 30.0, False, ("log", "linear")),
    ],
)
def test_an_axis_is_logarithmic_where_its_range_is_wide(
    farthest: int, highest: float, scales: tuple[str, str], *, may_be_log: bool
) -> None:
    line = [(1, [1.0]), (farthest, [2.0, highest, 3.0])]
    (axes,) = draw(Curve("x", "X", "rows", "ms", {"line": line}, log_y=may_be_log)).axes
    assert (axes.get_xscale(), axes.get_yscale()) == scales
    assert scales[1] == "log" or axes.get_ylim()[0] == 0


def test_a_curve_goes_through_the_medians_with_the_range_as_bars() -> None:
    line = [(1, [1.0]), (5, [2.0, 9.0, 3.0])]
    (axes,) = draw(Curve("x", "X", "rows", "ms", {"line": line})).axes
    (middle, *_), (bars,) = axes.get_lines(), axes.collections
    assert np.array(middle.get_xydata()).tolist() == [[1, 1], [5, 3]]
    assert isinstance(bars, LineCollection)
    assert [bar[:, 1].tolist() for bar in bars.get_segments()] == [[1, 1], [2, 9]]


def test_the_committed_page_is_that_of_the_committed_figures() -> None:
    files = [FOLDER / f"{name}.json" for name in MEASUREMENTS]
    sections = [read_section(file) for file in files if file.exists()]
    if not sections:
        pytest.fail("no figures are committed: run make bench")
    remarks = FOLDER / "remarks.md"
    told = remarks.read_text(encoding="utf-8") if remarks.exists() else ""
    assert PAGE.read_text(encoding="utf-8") == page(sections, told)


def test_the_committed_page_opens_with_all_that_a_user_wants_to_know() -> None:
    files = [FOLDER / f"{name}.json" for name in MEASUREMENTS]
    sections = [read_section(file) for file in files if file.exists()]
    figures = {(section.module, figure.name) for section in sections for figure in section.figures}
    wanted = {(f"bench.{module}", name) for _, module, names in OPENING for name in names}
    measured = {section.module for section in sections}
    assert {(module, name) for module, name in wanted - figures if module in measured} == set()
    assert FIRST_PICTURE in {curve.name for section in sections for curve in section.curves}


def test_no_two_committed_pictures_share_a_title() -> None:
    files = [FOLDER / f"{name}.json" for name in MEASUREMENTS]
    curves = [curve for f in files if f.exists() for curve in read_section(f).curves]
    assert len({curve.title for curve in curves}) == len(curves) > 1
    assert {path.stem for path in FOLDER.glob("*.svg")} == {curve.name for curve in curves}
