"""Rate of an export beside its floor, the models alone; and its memory against the users' number.

    python -m bench.export [--save]

The models' floor is onnxruntime on inputs that are already in memory, in the exporter's own batch
size and threads, in turns with ``gkc-export`` from start to end, publication included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import typer

from bench.bundles import write_bundle
from bench.checkouts import HERE
from bench.options import Rounds, Save
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import Stage, in_turns, ratios
from bench.student_bundle import write_student_bundle
from exporter.bundle import load_bundle
from exporter.features import Values
from exporter.inputs import item_batches, prepare, user_batches
from exporter.manifest import ModelKind

USERS: Final = 20_000
ITEMS: Final = 100_000
PAIRS: Final = 40
MEMORY_USERS: Final = 100_000
"""Of the smaller export for memory."""
MOST_PAIRS: Final = 1000
Inputs = list[tuple[ModelKind, dict[str, Values]]]


def main(*, rounds: Rounds = 3, save: Save = False) -> None:
    """Export, run the models in turns, and tell."""
    with Stage() as stage:
        bundle = stage.folder / "bundle"
        write_student_bundle(bundle, USERS, ITEMS, PAIRS)
        peaks = measure_peaks(stage.folder)
        inputs = read_inputs(bundle)
        measures: dict[str, Callable[[], float]] = {
            "models": lambda: run_models(bundle, inputs),
            "Redis": lambda: seconds_of_export(bundle, to_redis=True),
            "file:": lambda: seconds_of_export(bundle, to_redis=False),
        }
        times = in_turns(measures, rounds)
    tell(section(times, peaks), save=save)


def read_inputs(bundle: Path) -> Inputs:
    """Read a bundle's tables and cut them into the batches that its models get."""
    with prepare(load_bundle(bundle), MOST_PAIRS, lambda _: None) as prepared:
        inputs: Inputs = [("item", batch.inputs) for batch in item_batches(prepared, 0)]
        for batch in user_batches(prepared, 0):
            inputs += [("user", batch.user_inputs), ("user_category", batch.pair_inputs)]
    return inputs


def run_models(bundle: Path, inputs: Inputs) -> float:
    """Return the seconds that the models alone take."""
    with prepare(load_bundle(bundle), MOST_PAIRS, lambda _: None) as prepared:
        began = time.perf_counter()
        for kind, batch in inputs:
            prepared.models[kind].run(batch)
        return time.perf_counter() - began


def seconds_of_export(bundle: Path, *, to_redis: bool) -> float:
    """Return the seconds of an export into a new Redis server, or into a new embedded store."""
    with Stage() as alone:
        store = alone.redis().redis_url() if to_redis else f"file:{alone.folder}/store"
        return export(bundle, store)[0]


def export(bundle: Path, store: str) -> tuple[float, float]:
    """Run the exporter from start to end; return its seconds and its largest resident set, MiB.

    The peak counts from the memory of this process, which starts it.

    Raises
    ------
    SystemExit
        If it failed.
    """
    what = ("--version", "bench", "--bundle", str(bundle), "--store", store)
    command = HERE.module("exporter", *what, "--grace-seconds", "0", "--json")
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed with status {process.returncode}: {' '.join(command)}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def measure_peaks(folder: Path) -> list[float]:
    """Return the exporter's largest resident set, MiB, for some users and four times as many."""
    peaks = []
    for count in (MEMORY_USERS, 4 * MEMORY_USERS):
        bundle, store = folder / f"bundle-{count}", folder / f"store-{count}"
        write_bundle(bundle, np.full(count, 10), 64)
        peaks.append(export(bundle, f"file:{store}")[1])
        shutil.rmtree(bundle)
        shutil.rmtree(store)
    return peaks


def section(times: Mapping[str, Sequence[float]], peaks: Sequence[float]) -> Section:
    """Put the seconds of each round, and the peaks, in the form that is told."""
    vectors = USERS * (1 + PAIRS) + ITEMS
    to_redis, to_files = (ratios(times["models"], times[store]) for store in ("Redis", "file:"))
    told = "rate of an export to {}, of onnxruntime's alone"
    peak = f"peak memory of {4 * MEMORY_USERS:,} users to {MEMORY_USERS:,}"
    seconds = "; ".join(f"{name} {spread(values, 1)} s" for name, values in times.items())
    return Section(
        module="bench.export",
        title="Export",
        method=(
            f"keep's own students of default widths, random weights: {vectors:,} vectors, {PAIRS} "
            f"pairs a user, D = 192, f16, Redis on the same machine. An export is `gkc-export` "
            f"from start to end: reading and checking tables, models, writing, reading back, "
            f"publication. onnxruntime alone runs the same batches, held in memory. In turns, "
            f"{len(to_redis)} rounds. Memory: the exporter's largest resident set, synthetic "
            f"models, 10 pairs a user, to `file:`."
        ),
        figures=[
            Figure(told.format("Redis"), to_redis, target=0.6, stretch=0.8),
            Figure(told.format("file:"), to_files),
            Figure(peak, [peaks[1] / peaks[0]]),
        ],
        notes=[f"Seconds: {seconds}.", f"Peak memory: {peaks[0]:.0f} and {peaks[1]:.0f} MiB."],
    )


if __name__ == "__main__":
    typer.run(main)
