"""Peak memory of ``keep pretrain`` against the number of days in the log.

Simulates one world for n and for 3n days, pretrains on all but the last three days of each, and
prints the largest resident set of that process. Users and items are the same in both logs and
networks are narrow, so that what would grow with the days is not hidden.

    python -m bench.training_memory [--days 4]
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench.child import run_child
from bench.report import print_circumstances

IMPRESSIONS_PER_DAY = 100_000
BYTES_PER_IMPRESSION = 5 * 8 + 4
"""What ``keep.log.Day`` takes: five int64 and four bool columns."""
DOWNSTREAM_DAYS = 3
"""Days of a simulated log after those of pretraining."""
CONFIG = "mlp = [16]\ntower = [16]\nbehaviours = 10\nbatch_size = 2000\n"


def main(
    days: Annotated[int, typer.Option(help="Days of pretraining of the shorter log.")] = 4,
) -> None:
    """Pretrain on both logs and print one line of JSON each, then the ratio of their peaks."""
    print_circumstances("bench.training_memory", "torch")
    peaks = []
    for count in (days, 3 * days):
        with tempfile.TemporaryDirectory() as folder:
            # run_child measures best from a small process, so the log is written in another.
            writer = multiprocessing.get_context("spawn").Process(
                target=write_log, args=(Path(folder) / "log", count)
            )
            writer.start()
            writer.join()
            figures = _pretrain(Path(folder))
        columns_mib = count * IMPRESSIONS_PER_DAY * BYTES_PER_IMPRESSION / 2**20
        print(json.dumps({"days": count, "log_mib": round(columns_mib, 1), **figures}), flush=True)
        peaks.append(figures["peak_mib"])
    print(json.dumps({"longer_to_shorter": round(peaks[1] / peaks[0], 3)}))


def write_log(path: Path, days: int) -> None:
    """Simulate a log whose users and items are all there from the first day.

    Parameters
    ----------
    path : Path
        Directory of the new log.
    days : int
        Days of pretraining.
    """
    # Here, so that the process that is small for run_child's sake does not import it.
    from keep.sources.simulator import SimulatorConfig, simulate

    config = SimulatorConfig(
        preset="bench",
        impressions_per_day=IMPRESSIONS_PER_DAY,
        days=days + DOWNSTREAM_DAYS,
        new_item_share=0.0,
    )
    simulate(config, 1, path, lambda _: None)


def _pretrain(folder: Path) -> dict[str, float]:
    (folder / "config.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "keep", "pretrain", "--log", str(folder / "log")]
    command += ["--out", str(folder / "checkpoint"), "--config", str(folder / "config.toml")]
    cost = run_child(command)
    return {"peak_mib": round(cost.peak_mib, 1), "seconds": round(cost.seconds, 1)}


if __name__ == "__main__":
    typer.run(main)
