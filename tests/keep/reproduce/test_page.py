"""docs/reproduction.md: runs side by side, and never older than the JSON it is written from."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from keep.reproduce import page as reproduction
from keep.reproduce.report import difference_cell, gauc_cell, interval_cell, share_cell, signed
from keep.reproduce.results import write_results
from tests.keep.reproduce.planted import planted_results


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return planted_results(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def other(one: dict[str, Any]) -> dict[str, Any]:
    """Another log: one table less, another group of users, another note."""
    found = copy.deepcopy(one)
    found["log"]["name"] = "second"
    del found["tables"]["6"]
    found["tables"]["7"]["rows"][1]["name"] = "50-70"
    found["tables"]["2"]["rows"][2]["note"] = "only here"
    return found


@pytest.fixture(scope="module")
def rerun(one: dict[str, Any]) -> dict[str, Any]:
    """The same log and preset at a later commit: table 8 alone, other figures, another note."""
    found = copy.deepcopy(one)
    found["commit"] = "4567def"
    found["tables"] = {"8": found["tables"]["8"]}
    base, keep, decomposition = found["tables"]["8"]["rows"]
    keep["against"] = {"Base": {"lift": 0.0123, "interval": [0.0, 0.02]}}
    decomposition["gauc"] = [0.75] * 3
    base["note"] = "only in the rerun"
    return found


def line(text: str, start: str) -> list[str]:
    found = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_runs_stand_side_by_side(one: dict[str, Any], other: dict[str, Any]) -> None:
    text = reproduction.page([one, other], {"planted": "abc"}, "")
    keep = one["tables"]["2"]["rows"][2]
    lift = f"{signed(keep['lift'])} ({interval_cell(keep['interval'])})"
    ours = [gauc_cell(keep["gauc"]), lift]
    assert line(text, "KEEP") == ["KEEP", "0.6380", "+0.0070", *ours, *ours]
    group = one["tables"]["7"]["rows"][1]
    assert line(text, ">300")[3] == gauc_cell(group["base_gauc"])
    assert line(text, ">300")[6:] == ["-"] * 3
    assert line(text, "50-70")[3:6] == ["-"] * 3
    assert share_cell(one["tables"]["8"]["rows"][2]["share"]) in line(text, "decomposition")
    assert line(text, "KEEP over CoNet")[1] == line(text, "KEEP over CoNet")[2]


def test_a_table_shows_only_the_runs_that_have_it(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    text = reproduction.page([one, other], {}, "")
    section = text[text.index("## Table 6") : text.index("## Table 7")]
    assert "planted" in section
    assert "second" not in section
    assert "## Table 5" not in text


def test_notes_of_some_runs_name_them(one: dict[str, Any], other: dict[str, Any]) -> None:
    text = reproduction.page([one, other], {}, "")
    assert "- KEEP: only here (second, preset small)" in text
    assert "- Oracle: the ground truth; one score, paired with every seed\n" in text


def test_runs_of_one_log_stand_side_by_side_under_their_commits(
    one: dict[str, Any], other: dict[str, Any], rerun: dict[str, Any]
) -> None:
    text = reproduction.page([one, rerun, other], {}, "")
    earlier, later = "planted, preset small at 0123abc", "planted, preset small at 4567def"
    section = text[text.index("## Table 8") : text.index("circumstances and")]
    heading = line(section, "row")
    assert [heading[3], heading[7], heading[11]] == [
        f"{earlier}: GAUC",
        f"{later}: GAUC",
        "second, preset small: GAUC",
    ]
    cells = line(section, "decomposition")
    assert cells[3] == gauc_cell(one["tables"]["8"]["rows"][2]["gauc"])
    assert cells[7] == gauc_cell([0.75] * 3)
    share = one["tables"]["8"]["rows"][2]["share"]
    assert cells[5:7] == [share_cell(share), difference_cell(share)]
    difference = ["KEEP over Base", "-", "+0.0123 (+0.0000 to +0.0200)", "-"]
    assert line(section, "KEEP over Base") == difference
    assert f"- Base: only in the rerun ({later})" in section
    for label in (earlier, later):
        assert f"### {label}\n" in text
        assert f"## {label}: circumstances" in text


def test_runs_keep_their_label_in_tables_that_the_other_lacks(
    one: dict[str, Any], rerun: dict[str, Any]
) -> None:
    text = reproduction.page([one, rerun], {}, "")
    section = text[text.index("## Table 2") : text.index("## Table 6")]
    assert "planted, preset small at 0123abc: GAUC" in section
    assert "4567def" not in section


def test_only_runs_that_share_log_and_preset_are_told_apart_by_commit(
    one: dict[str, Any], other: dict[str, Any], rerun: dict[str, Any]
) -> None:
    full = {**rerun, "preset": "full"}
    assert list(reproduction.by_label([one, other, full])) == [
        "planted, preset small",
        "second, preset small",
        "planted",
    ]


def test_runs_that_cannot_be_told_apart_are_refused(
    one: dict[str, Any], rerun: dict[str, Any]
) -> None:
    same = {**rerun, "commit": one["commit"]}
    with pytest.raises(SystemExit, match="both planted, preset small at 0123abc, remove one"):
        reproduction.page([one, same], {}, "")


def test_verdicts_remarks_and_circumstances_are_told(one: dict[str, Any]) -> None:
    text = reproduction.page([one], {"planted": "abc"}, "It rained.\n")
    assert "| log's checksum as committed before | abc | yes |" in text
    assert "| **no** |" in text
    assert "## What did not come out, and why\n\nIt rained.\n\n" in text
    assert "## planted, preset small: circumstances" in text
    assert "What did not come out" not in reproduction.page([one], {}, "")


def test_what_contradicts_the_paper_comes_first(one: dict[str, Any]) -> None:
    found = copy.deepcopy(one)
    [order] = [o for o in found["tables"]["2"]["orders"] if o["below"] == "CoNet"]
    order |= {"lift": -0.01, "interval": [-0.02, -0.001]}
    text = reproduction.page([found], {}, "")
    section = text[text.index("## Where the order") : text.index("## What was to come out")]
    assert "- planted, preset small: 1 reversed, " in section
    first = section[section.index("| --- |") :].splitlines()[1]
    assert first == ("| KEEP over CoNet (table 2) | **reversed** -0.0100 (-0.0200 to -0.0010) |")


def test_reads_of_test_days_are_told(one: dict[str, Any]) -> None:
    read = {"when": "2026-11-24", "log": "planted", "seed": 7, "plan": None, "commit": "0123abc"}
    text = reproduction.page([one], {}, "", [{**read, "rows": {"2": ["Base", "KEEP"]}}])
    assert "| 2026-11-24 | planted, seed 7 | none | 0123abc | 2 (2 rows) |" in text
    assert "Reads of test days" not in reproduction.page([one], {}, "")


def test_only_results_are_read(one: dict[str, Any], tmp_path: Path) -> None:
    write_results(tmp_path, one)
    (tmp_path / "logs.json").write_text('{"planted": {"checksum": "abc"}}')
    assert reproduction.read_results(tmp_path) == [json.loads(json.dumps(one))]


def test_the_page_is_what_the_committed_results_say() -> None:
    runs = reproduction.read_results(reproduction.FOLDER)
    assert reproduction.PAGE.exists() == bool(runs), "run python -m keep.reproduce.page"
    if runs:
        written = reproduction.PAGE.read_text(encoding="utf-8")
        assert written == reproduction.current_page(runs), "run python -m keep.reproduce.page"
