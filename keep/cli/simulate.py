"""``keep simulate``: a log with known ground truth, from random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gkc.progress import progress
from keep.log import open_log
from keep.log_summary import describe
from keep.log_writer import check_replaceable
from keep.sources import simulator


def simulate(
    out: Annotated[Path, typer.Option("--out", help="Directory of the new log.", metavar="LOG")],
    preset: Annotated[
        Literal["small", "large"],
        typer.Option(help="small: 400,000 impressions; large: 2.8 million, for figures."),
    ] = "small",
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="The same seed gives the same log.")
    ] = 0,
) -> None:
    """Simulate a super-domain and a sub-domain over many days.

    The ground truth is written beside the log, in LOG/truth. LOG may be absent, empty, or an
    earlier log of the same preset, which is replaced.

    Example: keep simulate --out logs/simulated --preset small --seed 1
    """
    config = simulator.PRESETS[preset]
    check_replaceable(out, simulator.log_name(config))
    with progress("simulating", config.days) as advance:
        simulator.simulate(config, seed, out, advance)
    print(describe(open_log(out)))
