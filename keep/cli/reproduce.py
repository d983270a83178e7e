"""``keep reproduce``: the paper's tables on a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from keep.reproduce.paper import TABLES


def reproduce_command(
    log: Annotated[
        Path,
        typer.Option(metavar="LOG", help="Log directory, as keep fetch or simulate writes it."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder of the results; the same command goes on with it."
        ),
    ],
    table: Annotated[
        str, typer.Option(metavar="N,…", help="2 to 8, several with commas, or all.")
    ] = "all",
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Seeds reported; default: 2 (small), 5 (full)."),
    ] = None,
    preset: Annotated[
        Literal["small", "full"],
        typer.Option(help="small: few trials, to see that all runs; full: for figures."),
    ] = "small",
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Plan written down before; --preset full scores no test day without one.",
        ),
    ] = None,
    widths: Annotated[
        bool,
        typer.Option(
            "--widths",
            help="Compare narrower vectors, too, on the tuning day: quality at fewer bytes.",
        ),
    ] = False,
) -> None:
    """Train every system of the paper's tables, with every seed, and compare them.

    Options are chosen on the last training day, the test day is read once. What is finished is
    not trained again: after Ctrl-C or a crash, the same command goes on. --out then holds
    results.json, report.md, plots and the test day's predictions.

    Each time that a test day is scored is written to reads.jsonl, beside the plan or in --out.

    Example: keep reproduce --log logs/simulated --table all --preset small --out results/small
    """
    tables = TABLES if table == "all" else tuple(part.strip() for part in table.split(","))
    unknown = [part for part in tables if part not in TABLES]
    if unknown:
        raise typer.BadParameter(f"there is no table {unknown[0]!r}; say 2 to 8, or all")
    # torch takes seconds to import: what is wrong with the options is said before.
    from keep.recipes.reproduce import reproduce

    reproduce(log, out, tables, preset, seeds, plan, widths)
