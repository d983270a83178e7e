"""``keep simulate``: a log with known ground truth, from random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gkc.progress import progress
from keep.log import open_log
from keep.log_summary import describe
from keep.log_writer import check_replaceable
from keep.reproduce.registration import read_plan
from keep.sources import simulator


def simulate(
    out: Annotated[Path, typer.Option("--out", help="Directory of the new log.", metavar="LOG")],
    preset: Annotated[
        Literal["small", "large", "half", "development"] | None,
        typer.Option(
            help="small: 400,000 impressions; large: 2.8 million, for figures; half: half of "
            "that; development: half, with a larger tuning day, to choose on.",
            show_default="small",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="The same seed gives the same log.", show_default="0"
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plan of keep reproduce whose fresh world it is to be."),
    ] = None,
    world: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="With --plan: which one, from 0.")
    ] = None,
) -> None:
    """Simulate a super-domain and a sub-domain over many days.

    The ground truth is written beside the log, in LOG/truth. LOG may be absent, empty, or an
    earlier log of the same preset, which is replaced.

    A plan says preset and seed of its fresh worlds: the seed is the first eight hexadecimal digits
    of the file's SHA-256, plus the number of the world.

    Example: keep simulate --out logs/simulated --preset small --seed 1
    """
    if (plan is None) != (world is None):
        raise typer.BadParameter("--plan and --world go together")
    if plan is None or world is None:
        config, seed = simulator.PRESETS[preset or "small"], seed or 0
    elif preset is None and seed is None:
        config, seed = read_plan(plan).world(world)
    else:
        raise typer.BadParameter("a plan says preset and seed: leave out --preset and --seed")
    check_replaceable(out, simulator.log_name(config))
    with progress("simulating", config.days) as advance:
        simulator.simulate(config, seed, out, advance)
    print(describe(open_log(out)))
