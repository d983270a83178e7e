"""What the students keep of KEEP's lift on items that pretraining could know, and on new ones.

Reads the predictions of table 8 that ``keep reproduce --out RUN`` left, and the log of that run. An
item is known if an earlier day than the test's shows it.

    python -m bench.known_items RUN LOG
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Annotated, Final

import numpy as np
import typer

from gkc.arrays import Bools
from keep.gauc import gauc
from keep.log import open_log
from keep.reproduce.predictions import Predictions, prediction_path, read_predictions

TABLE: Final = "8"
BASE, KEEP = "Base", "KEEP"
STUDENTS: Final = ("decomposition", "degeneration", "decomposition + degeneration")
Means = Mapping[str, float]
"""GAUC of each row, the mean over seeds."""


def main(
    run: Annotated[Path, typer.Argument(help="What --out named.")],
    log: Annotated[Path, typer.Argument(help="The log that it was run on.")],
) -> None:
    """Print GAUC of each row and its share of KEEP's lift, on all impressions and on parts."""
    opened = open_log(log)
    *earlier, test = opened.info.days
    seen = np.unique(np.concatenate([opened.day(day).item for day in earlier]))
    seeds = json.loads((run / "results.json").read_text(encoding="utf-8"))["seeds"]
    rows = {
        row: [read_predictions(prediction_path(run, TABLE, row, seed)) for seed in seeds]
        for row in (BASE, KEEP, *STUDENTS)
    }
    is_known = np.isin(rows[BASE][0].item, seen)
    print(f"day {test}: {is_known.mean():.1%} of the impressions show items of earlier days")
    parts = {"all": np.ones_like(is_known), "known items": is_known, "new items": ~is_known}
    for part, mask in parts.items():
        means = mean_gauc(rows, mask)
        told = ", ".join(f"{row} {share(means, row):.0%}" for row in STUDENTS)
        print(f"{part}: Base {means[BASE]:.4f}, KEEP {means[KEEP]:.4f}; kept by {told}")


def mean_gauc(rows: Mapping[str, list[Predictions]], mask: Bools) -> Means:
    """Return the mean GAUC of each row over its seeds, of these impressions only.

    Parameters
    ----------
    rows : mapping of str to list of Predictions
        By row, one for each seed.
    mask : ndarray, shape (n,), bool
        Which impressions count.
    """
    return {
        row: fmean(gauc(one.user[mask], one.label[mask], one.score[mask]).value for one in seeds)
        for row, seeds in rows.items()
    }


def share(means: Means, row: str) -> float:
    """Return the ratio of a row's lift over Base to KEEP's."""
    return (means[row] - means[BASE]) / (means[KEEP] - means[BASE])


if __name__ == "__main__":
    typer.run(main)
