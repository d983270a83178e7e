"""Write docs/reproduction.md from the results that are committed in docs/reproduction/.

python -m keep.reproduce.page
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keep.reproduce.paper import TITLES
from keep.reproduce.report import (
    MISSING,
    Results,
    Row,
    circumstances_lines,
    gauc_cell,
    has_own_bases,
    interval_cell,
    lift_cell,
    markdown_table,
    paper_cells,
    rows_by_name,
    share_cell,
    signed,
    tuned_lines,
)
from keep.reproduce.results import FORMAT
from keep.reproduce.verdicts import verdicts

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "reproduction"
PAGE = DOCS / "reproduction.md"
REMARKS = FOLDER / "remarks.md"
"""Ours, about what did not come out and why; taken over into the page."""

HEADING = """\
# The paper's tables, reproduced

Written by `python -m keep.reproduce.page` from the JSON in [`reproduction/`](reproduction/); \
change that, or `reproduction/remarks.md`, not this page.

GAUC: mean ± standard deviation over seeds. Lift: mean paired difference to the base. Intervals \
are 95 % of the paired lift, bootstrap over users and seeds together. The paper's figures are of \
Alibaba's logs: order can be compared with ours, sizes cannot."""


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read every ``results.json`` that was committed under a name of its own.

    Parameters
    ----------
    folder : Path
        Where they lie; other JSON files there are skipped.

    Returns
    -------
    list of dict
        By file name.
    """
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [results for results in files if results.get("format") == FORMAT]


def page(runs: Sequence[Results], checksums: Mapping[str, str], remarks: str) -> str:
    """Write the page.

    Parameters
    ----------
    runs : sequence of mapping
        The results, one column group each; at least one.
    checksums : mapping of str to str
        The logs' committed checksums by name.
    remarks : str
        Markdown about what did not come out; may be empty.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    SystemExit
        If runs cannot be told apart.
    """
    labelled = by_label(runs)
    parts = [HEADING, "## What was to come out"]
    for label, run in labelled.items():
        lines = [
            (verdict.claim, verdict.measured, "yes" if verdict.holds else "**no**")
            for verdict in verdicts(run, checksums)
        ]
        parts += [f"### {label}", markdown_table(("claim", "found", "holds"), lines)]
    parts += ["## What did not come out, and why", remarks.strip()] if remarks.strip() else []
    for number, title in TITLES.items():
        shown = {label: run for label, run in labelled.items() if number in run["tables"]}
        if shown:
            parts += [f"## Table {number}: {title}", *_table(number, shown)]
    for label, run in labelled.items():
        facts = "\n".join(f"- {line}" for line in circumstances_lines(run))
        parts += [f"## {label}: circumstances and tuned options", facts, *tuned_lines(run)]
    return "\n\n".join(parts) + "\n"


def by_label(runs: Sequence[Results]) -> dict[str, Results]:
    """Name every run by its log and preset, those that share both by their commit too.

    Parameters
    ----------
    runs : sequence of mapping
        The results of all runs that stand on one page.

    Returns
    -------
    dict of str to mapping
        The same runs by label, in the same order.

    Raises
    ------
    SystemExit
        If runs share log, preset and commit.
    """
    shared = Counter(_log_and_preset(run) for run in runs)
    labelled: dict[str, Results] = {}
    for run in runs:
        label = _log_and_preset(run)
        if shared[label] > 1:
            label += f" at {run['commit']}"
        if label in labelled:
            raise SystemExit(f"two results are both {label}, remove one of them")
        labelled[label] = run
    return labelled


def _log_and_preset(run: Results) -> str:
    """Name a run by its log, and by its preset unless that is the full one."""
    name = str(run["log"]["name"])
    return name if run["preset"] == "full" else f"{name}, preset {run['preset']}"


def _table(number: str, labelled: Mapping[str, Results]) -> list[str]:
    """Lay the rows of all runs side by side, and their paired differences below."""
    tables = {label: rows_by_name(run["tables"][number]) for label, run in labelled.items()}
    with_base = any(has_own_bases(rows.values()) for rows in tables.values())
    with_share = any(row["share"] for rows in tables.values() for row in rows.values())
    header = ["row", "paper GAUC", "paper lift"]
    for name in tables:
        header += [f"{name}: base GAUC"] if with_base else []
        header += [f"{name}: GAUC", "lift (95 % interval)"]
        header += ["share of KEEP's lift"] if with_share else []
    lines = []
    for name in dict.fromkeys(name for rows in tables.values() for name in rows):
        in_runs = [rows.get(name) for rows in tables.values()]
        line = [name, *paper_cells(next(row for row in in_runs if row is not None))]
        for row in in_runs:
            line += _cells(row, with_base=with_base, with_share=with_share)
        lines.append(line)
    return [markdown_table(header, lines), *_differences(tables), *_notes(tables)]


def _cells(row: Row | None, *, with_base: bool, with_share: bool) -> list[str]:
    if row is None:
        return [MISSING] * (2 + with_base + with_share)
    lift = lift_cell(row)
    cells = [gauc_cell(row["base_gauc"])] if with_base else []
    cells.append(gauc_cell(row["gauc"]))
    cells.append(lift if lift == MISSING else f"{lift} ({interval_cell(row['interval'])})")
    return [*cells, share_cell(row["share"])] if with_share else cells


def _differences(tables: Mapping[str, Mapping[str, Row]]) -> list[str]:
    by_pair: dict[str, dict[str, str]] = {}
    for label, rows in tables.items():
        for row in rows.values():
            for other, by in row["against"].items():
                cell = f"{signed(by['lift'])} ({interval_cell(by['interval'])})"
                by_pair.setdefault(f"{row['name']} over {other}", {})[label] = cell
    lines = [
        [name, *(cells.get(label, MISSING) for label in tables)] for name, cells in by_pair.items()
    ]
    header = ["paired difference", *(f"{label} (95 % interval)" for label in tables)]
    return [markdown_table(header, lines)] if lines else []


def _notes(tables: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """List the rows' notes, naming the runs of those that are not in all."""
    labels_of: dict[str, list[str]] = {}
    for label, rows in tables.items():
        for row in rows.values():
            if row["note"]:
                labels_of.setdefault(f"- {row['name']}: {row['note']}", []).append(label)
    lines = [
        note if len(labels) == len(tables) else f"{note} ({', '.join(labels)})"
        for note, labels in labels_of.items()
    ]
    return ["\n".join(lines)] if lines else []


def main() -> None:
    """Write the page.

    Raises
    ------
    SystemExit
        If there are no results.
    """
    runs = read_results(FOLDER)
    if not runs:
        raise SystemExit(f"no results in {FOLDER.relative_to(DOCS.parent)}")
    PAGE.write_text(current_page(runs), encoding="utf-8")


def current_page(runs: Sequence[Results]) -> str:
    """Write the page from what the repository holds.

    Parameters
    ----------
    runs : sequence of mapping
        What ``read_results`` found.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    SystemExit
        If runs cannot be told apart.
    """
    logs = json.loads((FOLDER / "logs.json").read_text(encoding="utf-8"))
    remarks = REMARKS.read_text(encoding="utf-8") if REMARKS.exists() else ""
    return page(runs, {name: log["checksum"] for name, log in logs.items()}, remarks)


if __name__ == "__main__":
    main()
