"""docs/performance.md is that of the committed JSON, and shows what was missed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.performance import PAGE, page, write
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


def test_without_results_nothing_is_written(tmp_path: Path) -> None:
    assert write(tmp_path, tmp_path / "page.md") == []
    assert not list(tmp_path.iterdir())


def test_the_committed_page_is_that_of_the_committed_figures() -> None:
    files = [FOLDER / f"{name}.json" for name in MEASUREMENTS]
    sections = [read_section(file) for file in files if file.exists()]
    if not sections:
        pytest.fail("no figures are committed: run make bench")
    remarks = FOLDER / "remarks.md"
    told = remarks.read_text(encoding="utf-8") if remarks.exists() else ""
    assert PAGE.read_text(encoding="utf-8") == page(sections, told)
