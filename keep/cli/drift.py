"""``keep drift``: what serving another version than the trained one costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def drift_command(
    log: Annotated[
        Path, typer.Option(metavar="LOG", help="Log directory, as keep simulate writes it.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder of the results; the same command goes on with it."
        ),
    ],
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Seeds; default: 1 (small), 3 (full).")
    ] = None,
    preset: Annotated[
        Literal["small", "full"],
        typer.Option(help="small: to see that all runs; full: for figures."),
    ] = "small",
) -> None:
    """Measure what a model loses that is served newer knowledge than it was trained with.

    Versions one to three days newer, gone on with or pretrained anew, with every way we know to
    make them compatible. Strengths are chosen one day before the test day. What is finished is
    not trained again. --out then holds results.json and report.md.

    Example: keep drift --log logs/simulated --preset small --out results/drift
    """
    # torch takes seconds to import: what is wrong with the options is said before.
    from keep.recipes.drift import drift

    drift(log, out, preset, seeds)
