"""Write docs/drift.md from the results of ``keep drift`` that are committed as docs/drift.json.

python -m keep.drift.page
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keep.drift.costs import report
from keep.reproduce.report import interval_cell, signed

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "drift.json"
PAGE = DOCS / "drift.md"
WANTED = 2 / 3
"""Share of the fresh-seed mismatch cost that is to be removed at k = 1."""


def page(results: Mapping[str, Any]) -> str:
    """Write the page: the verdict, then the tables.

    Parameters
    ----------
    results : mapping
        What ``keep drift`` left in ``results.json``.

    Returns
    -------
    str
        Markdown.
    """
    title, _, tables = report(results).partition("\n")
    note = (
        "Written by `python -m keep.drift.page` from [drift.json](drift.json); change that instead."
    )
    return "\n\n".join([title, note, verdict(results), tables.strip()]) + "\n"


def verdict(results: Mapping[str, Any]) -> str:
    """Say at k = 1 what a fresh seed and a warm start cost, and how much of it a map removes.

    Parameters
    ----------
    results : mapping
        As for ``page``.

    Returns
    -------
    str
        Three lines of Markdown.
    """
    rows = {row["name"]: row for row in results["lags"]["1"]}
    costs = [
        f"- {name}, k = 1: mismatch cost {signed(rows[name]['cost'])} "
        f"({interval_cell(rows[name]['interval'])}), "
        f"GAUC {np.mean(rows[name]['gauc']):.4f}"
        for name in ("warm start", "fresh seed")
    ]
    removed = rows["fresh seed, ridge map"]["removed"]["value"]
    if removed is None:
        share = "there is no such cost in these results"
    else:
        share = f"{removed:.0%}, {'as' if removed >= WANTED else '**not** as'} wanted"
    claim = f"share of the fresh-seed cost that a ridge map removes, at least {WANTED:.0%} wanted"
    return "\n".join([*costs, f"- {claim}: {share}"])


def main() -> None:
    """Write the page.

    Raises
    ------
    SystemExit
        If there are no results.
    """
    if not RESULTS.exists():
        raise SystemExit(f"no results in {RESULTS.relative_to(DOCS.parent)}")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
