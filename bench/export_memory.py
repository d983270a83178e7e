"""Peak memory and speed of an export, against the number of users.

Writes synthetic bundles (lists of behaviours, pairs of categories, two-tower models with a hidden
layer), exports each in a process of its own, and prints that process's largest resident set.

    python -m bench.export_memory --users 100000 --users 1000000 --pairs 10
    python -m bench.export_memory --users 100000 --pairs 40 --store redis://127.0.0.1:6379
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.bundles import write_bundle
from bench.child import run_child


def main(
    users: Annotated[list[int], typer.Option(help="Numbers of users, one export each.")],
    pairs: Annotated[int, typer.Option(help="Pairs of each user.")] = 10,
    dim: Annotated[int, typer.Option(help="Width of every vector.")] = 64,
    store: Annotated[str, typer.Option(help="Store URL; a directory of its own by default.")] = "",
    folder: Annotated[Path | None, typer.Option(help="Where bundles are made.")] = None,
) -> None:
    """Export bundles of several sizes and print one line of JSON each."""
    peaks = []
    for count in users:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            bundle = Path(scratch) / "bundle"
            # run_child measures best from a small process, so the bundle is written in another.
            writer = multiprocessing.get_context("spawn").Process(
                target=write_bundle, args=(bundle, count, pairs, dim)
            )
            writer.start()
            writer.join()
            figures = run_export(bundle, store or f"file:{scratch}/store")
        print(json.dumps({"users": count, "pairs_per_user": pairs, "dim": dim, **figures}))
        peaks.append(figures["peak_mib"])
    if len(peaks) > 1:
        print(json.dumps({"largest_to_smallest": round(max(peaks) / min(peaks), 3)}))


def run_export(bundle: Path, store: str) -> dict[str, Any]:
    """Export in a child process; return its peak memory in MiB, its seconds and CPU seconds."""
    command = [sys.executable, "-m", "exporter", "--version", "bench", "--json"]
    command += ["--bundle", str(bundle), "--store", store, "--grace-seconds", "0"]
    cost = run_child(command)
    report = json.loads(cost.stdout)
    rows = report["users"] + report["items"] + report["user_categories"]
    return {
        "peak_mib": round(cost.peak_mib, 1),
        "seconds": round(cost.seconds, 1),
        "cpu_seconds": round(cost.cpu_seconds, 1),
        "rows_per_second": round(rows / cost.seconds),
        "stored_bytes": report["bytes"],
    }


if __name__ == "__main__":
    typer.run(main)
