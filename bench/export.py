"""Rate of an export beside its floor, the models alone; and its memory against the users' number.

    python -m bench.export [--save]

The models' floor is onnxruntime on inputs that are already in memory, in the exporter's own batch
size and threads, in turns with ``gkc-export`` from start to end, publication included.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from bench.bundles import write_bundle
from bench.checkouts import HERE
from bench.child import Cost, run_child
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import Stage, ratios
from bench.student_bundle import write_student_bundle
from exporter.bundle import load_bundle
from exporter.inputs import item_batches, prepare, user_batches
from exporter.manifest import ModelKind
from exporter.tables import Values

PAIRS: Final = 40
MOST_PAIRS: Final = 1000
Inputs = list[tuple[ModelKind, dict[str, Values]]]


def main(
    *,
    users: Annotated[int, typer.Option(help="Users of the students' bundle.")] = 20_000,
    items: Annotated[int, typer.Option(help="Items of the students' bundle.")] = 100_000,
    memory_users: Annotated[int, typer.Option(help="Of the smaller export for memory.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Repeats of everything.")] = 3,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Export, run the models in turns, and tell."""
    times: dict[str, list[float]] = {"models": [], "Redis": [], "file:": []}
    with Stage() as stage:
        bundle = stage.folder / "bundle"
        write_student_bundle(bundle, users, items, PAIRS)
        peaks = measure_peaks(stage.folder, memory_users)
        inputs = read_inputs(bundle)
        for number in range(rounds):
            times["models"].append(run_models(bundle, inputs))
            with Stage() as alone:
                times["Redis"].append(export(bundle, alone.redis()[1]).seconds)
            times["file:"].append(export(bundle, f"file:{stage.folder}/store-{number}").seconds)
    tell(section(times, peaks, users * (1 + PAIRS) + items, memory_users), save=save)


def read_inputs(bundle: Path) -> Inputs:
    """Read a bundle's tables and cut them into the batches that its models get."""
    found: Inputs = []
    with prepare(load_bundle(bundle), MOST_PAIRS, lambda _: None) as prepared:
        found += [("item", batch.inputs) for batch in item_batches(prepared, 0)]
        for batch in user_batches(prepared, 0):
            found += [("user", batch.user_inputs), ("user_category", batch.pair_inputs)]
    return found


def run_models(bundle: Path, inputs: Inputs) -> float:
    """Return the seconds that the models alone take."""
    with prepare(load_bundle(bundle), MOST_PAIRS, lambda _: None) as prepared:
        began = time.perf_counter()
        for kind, batch in inputs:
            prepared.models[kind].run(batch)
        return time.perf_counter() - began


def export(bundle: Path, store: str) -> Cost:
    """Run the exporter from start to end."""
    what = ("--version", "bench", "--bundle", str(bundle), "--store", store)
    return run_child(HERE.module("exporter", *what, "--grace-seconds", "0", "--json"))


def measure_peaks(folder: Path, users: int) -> list[float]:
    """Return the exporter's largest resident set, MiB, for as many users and four times as many."""
    peaks = []
    for count in (users, 4 * users):
        bundle, store = folder / f"bundle-{count}", folder / f"store-{count}"
        write_bundle(bundle, np.full(count, 10), 64)
        peaks.append(export(bundle, f"file:{store}").peak_mib)
        shutil.rmtree(bundle)
        shutil.rmtree(store)
    return peaks


def section(
    times: Mapping[str, Sequence[float]], peaks: Sequence[float], vectors: int, memory_users: int
) -> Section:
    """Put the seconds of each round, and the peaks, in the form that is told."""
    to_redis, to_files = (ratios(times["models"], times[store]) for store in ("Redis", "file:"))
    told = "rate of an export to {}, of onnxruntime's alone"
    peak = f"peak memory of {4 * memory_users:,} users to {memory_users:,}"
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
