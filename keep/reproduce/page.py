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
from keep.reproduce.registration import LEDGER_FILE, read_ledger
from keep.reproduce.report import (
    EXTRAS,
    MISSING,
    Results,
    Row,
    beside_lines,
    circumstances_lines,
    extras_of,
    gauc_cell,
    has_own_bases,
    interval_cell,
    lift_cell,
    markdown_table,
    paper_cells,
    rows_by_name,
    signed,
    tuned_lines,
)
from keep.reproduce.results import FORMAT
from keep.reproduce.verdicts import OUTCOMES, Order, orders, verdicts

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


ORDERS = """\
## Where the order is not the paper's

Every two rows that a table of the paper puts one above the other, with the paired difference in \
the paper's direction: *reversed* and *as the paper* where its interval excludes zero, else \
*undecided*. What contradicts the paper comes first. Earlier results do not hold the paired \
difference of every two rows; it then lies between the ends of their lifts' intervals, and is \
decided where these are apart."""


READS = """\
## Reads of test days

Each time that `keep reproduce` scored a test day, from \
[`reproduction/reads.jsonl`](reproduction/reads.jsonl). What was read without a plan carries no \
claim of its own. `keep drift` and `make demo` (MovieLens) score test days, too: of these only \
the first run of `keep drift` is listed."""


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


def page(
    runs: Sequence[Results],
    checksums: Mapping[str, str],
    remarks: str,
    reads: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write the page.

    Parameters
    ----------
    runs : sequence of mapping
        The results, one column group each; at least one.
    checksums : mapping of str to str
        The logs' committed checksums by name.
    remarks : str
        Markdown about what did not come out; may be empty.
    reads : sequence of mapping
        The ledger's lines.

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
    parts = [HEADING, ORDERS, *_orders(labelled), "## What was to come out"]
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
    parts += [READS, _reads(reads)] if reads else []
    for label, run in labelled.items():
        facts = "\n".join(f"- {line}" for line in circumstances_lines(run))
        parts += beside_lines(run, f"{label}: ")
        parts += [f"## {label}: circumstances and tuned options", facts, *tuned_lines(run)]
    return "\n\n".join(parts) + "\n"


def _orders(labelled: Mapping[str, Results]) -> list[str]:
    """Lay the orders of all runs side by side, those that contradict the paper above."""
    found: dict[tuple[str, str], dict[str, Order]] = {}
    for label, run in labelled.items():
        for order in orders(run):
            found.setdefault((order.table, order.claim), {})[label] = order
    counts = [
        f"- {label}: " + ", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES)
        for label in labelled
        for count in [Counter(by[label].outcome for by in found.values() if label in by)]
    ]
    worst_first = sorted(
        found.items(), key=lambda item: min(OUTCOMES.index(o.outcome) for o in item[1].values())
    )
    lines = [
        [f"{claim} (table {table})", *(_order_cell(by.get(label)) for label in labelled)]
        for (table, claim), by in worst_first
    ]
    return ["\n".join(counts), markdown_table(("order in the paper", *labelled), lines)]


def _order_cell(order: Order | None) -> str:
    if order is None:
        return MISSING
    outcome = f"**{order.outcome}**" if order.outcome == "reversed" else order.outcome
    return f"{outcome} {order.measured}"


def _reads(reads: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [
            str(read["when"]),
            read["log"] if read["seed"] is None else f"{read['log']}, seed {read['seed']}",
            str(read["plan"] or "none")[:12],
            str(read["commit"]),
            ", ".join(f"{table} ({len(rows)} rows)" for table, rows in read["rows"].items()),
        ]
        for read in reads
    ]
    return markdown_table(("when", "log", "plan", "commit", "tables"), lines)


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
    extras = extras_of(row for rows in tables.values() for row in rows.values())
    header = ["row", "paper GAUC", "paper lift"]
    for name in tables:
        header += [f"{name}: base GAUC"] if with_base else []
        header += [f"{name}: GAUC", "lift (95 % interval)"]
        header += extras
    lines = []
    for name in dict.fromkeys(name for rows in tables.values() for name in rows):
        in_runs = [rows.get(name) for rows in tables.values()]
        line = [name, *paper_cells(next(row for row in in_runs if row is not None))]
        for row in in_runs:
            line += _cells(row, with_base=with_base, extras=extras)
        lines.append(line)
    return [markdown_table(header, lines), *_differences(tables), *_notes(tables)]


def _cells(row: Row | None, *, with_base: bool, extras: Sequence[str]) -> list[str]:
    if row is None:
        return [MISSING] * (2 + with_base + len(extras))
    lift = lift_cell(row)
    cells = [gauc_cell(row["base_gauc"])] if with_base else []
    cells.append(gauc_cell(row["gauc"]))
    cells.append(lift if lift == MISSING else f"{lift} ({interval_cell(row['interval'])})")
    return [*cells, *(EXTRAS[name](row) for name in extras)]


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
    checksums = {name: log["checksum"] for name, log in logs.items()}
    return page(runs, checksums, remarks, read_ledger(FOLDER / LEDGER_FILE))


if __name__ == "__main__":
    main()
