"""Several worlds together: the tables of their runs as those of one, and variants compared.

python -m keep.reproduce.worlds RUN… --out FILE
python -m keep.reproduce.worlds RUN… --variants "a tower per task, both" "distillation, both"

A RUN is a folder of ``keep reproduce``, one for each world: logs of one preset and of other seeds.
The first command writes results that hold the mean over worlds, to be committed in
docs/reproduction/. The second one compares variants on the tuning days, the cheapest named first,
and says which is worth its cost; with runs on development worlds, no test day is read for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from gkc.errors import GkcError
from keep.atomic import json_values, read_json, write_text
from keep.errors import ProblemError
from keep.reproduce.jobs import trial_predictions
from keep.reproduce.predictions import read_predictions
from keep.reproduce.report import gauc_cell, interval_cell, markdown_table, signed
from keep.reproduce.results import (
    DIGITS,
    RESULTS_FILE,
    Plan,
    build_table,
    read_rows,
    results_text,
    row_scores,
)
from keep.reproduce.statistics import (
    UserScores,
    Worlds,
    gauc_per_seed,
    paired_lift,
    user_scores,
    worth_its_cost,
)

ALIKE = ("format", "preset", "seeds", "tuning_seeds", "plan")
"""What the runs of several worlds must have in common."""
CIRCUMSTANCES = ("command", "machine", "date", "versions")
"""What is told as of the first one."""


class WorldsError(ProblemError):
    """Runs that are not of one kind."""

    kind = "run "


def join(runs: Sequence[Path]) -> dict[str, Any]:
    """Compute the tables of several worlds' runs, as ``results.json`` holds those of one.

    Rows correspond by their place; table 7's groups have each world's own bounds, and the first
    one's names. Options and trials are told by world.

    Raises
    ------
    WorldsError
        If a run is unfinished, or not like the first one.
    PredictionsError
        If a file of predictions is missing or broken.
    UnpairedError
        If two rows that are compared rank different impressions.
    """
    results = _results(runs)
    planned = [read_rows(run) for run in runs]
    for run, plan in zip(runs, planned, strict=True):
        _check_same(run, "tables", _shape(plan), _shape(planned[0]))
    seeds = results[0]["seeds"]
    tables = {
        number: build_table(number, rows, _scores(runs, planned, number, seeds))
        for number, rows in planned[0].items()
    }
    return {**_facts(results), "tables": json_values(tables, DIGITS)}


def variant_worlds(runs: Sequence[Path], variant: str) -> Worlds:
    """Read how a variant ranked the tuning day of each world.

    Raises
    ------
    WorldsError
        If a run is unfinished, not like the first one, or did not try the variant.
    PredictionsError
        If a file of predictions is missing or broken.
    """
    worlds = []
    for run, results in zip(runs, _results(runs), strict=True):
        seeds = [t["seed"] for t in results["variants"] if t["method"] == f"variant {variant}"]
        if not seeds:
            tried = dict.fromkeys(t["method"].removeprefix("variant ") for t in results["variants"])
            names = "; ".join(tried) or "none"
            raise WorldsError(run, f"did not try the variant {variant!r}; there are: {names}")
        files = {seed: trial_predictions(run, f"variant {variant}", 0, seed) for seed in seeds}
        worlds.append(user_scores({seed: read_predictions(file) for seed, file in files.items()}))
    return worlds


def _results(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the runs' results, after checking that they are of one kind."""
    found = [read_json(run / RESULTS_FILE) for run in runs]
    for run, results in zip(runs, found, strict=True):
        if not results:
            raise WorldsError(run, f"has no {RESULTS_FILE}: run keep reproduce to its end")
        for name in ALIKE:
            _check_same(run, name, results[name], found[0][name])
    return found


def _check_same(run: Path, what: str, found: object, first: object) -> None:
    if found != first:
        raise WorldsError(run, f"differs from the first run in its {what}: {found}, not {first}")


def _shape(plan: Plan) -> dict[str, int]:
    return {number: len(rows) for number, rows in plan.items()}


def _scores(
    runs: Sequence[Path], planned: Sequence[Plan], number: str, seeds: Sequence[int]
) -> list[dict[str, UserScores]]:
    """Read a table's rows in every world, by their names in the first one."""
    worlds = [
        row_scores(run, number, plan[number], seeds)
        for run, plan in zip(runs, planned, strict=True)
    ]
    return [dict(zip(worlds[0], world.values(), strict=True)) for world in worlds]


def _facts(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put together what stands beside the figures."""
    logs = [run["log"] for run in results]
    log = {
        **logs[0],
        "name": f"{logs[0]['name']}, {len(logs)} worlds",
        "seed": [log["seed"] for log in logs],
        "checksum": ", ".join(log["checksum"] for log in logs),
    }
    by_world = {f"seed {run['log']['seed']}": run for run in results}
    together: dict[str, Any] = {
        "trials": [
            {**trial, "method": f"{trial['method']}, {world}"}
            for world, run in by_world.items()
            for trial in run["trials"]
        ],
        "served": [served for run in results for served in run["served"]],
        "seconds": sum(run["seconds"] for run in results),
        "commit": ", ".join(dict.fromkeys(run["commit"] for run in results)),
        "changed": _changed(results),
    }
    for chosen in ("tuned", "plug_ins"):
        together[chosen] = {
            f"{method}, {world}": options
            for world, run in by_world.items()
            for method, options in run[chosen].items()
        }
    alike = {name: results[0][name] for name in (*ALIKE, *CIRCUMSTANCES)}
    return {**alike, **together, "log": log}


def _changed(results: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Unite the files of code that any of the runs had changed; None if one does not know."""
    changed = [run["changed"] for run in results]
    return None if None in changed else sorted({file for files in changed for file in files})


def compared(variants: Mapping[str, Worlds]) -> str:
    """Lay variants side by side, the cheapest first, and say which is worth its cost."""
    first = next(iter(variants.values()))
    lines = []
    for name, row in variants.items():
        lift = paired_lift(row, first)
        interval = interval_cell((lift.low, lift.high))
        lines.append([name, gauc_cell(gauc_per_seed(row).tolist()), signed(lift.mean), interval])
    table = markdown_table(("variant", "GAUC", "over the first", "95 % interval"), lines)
    return f"{table}\n\nworth its cost: {worth_its_cost(variants)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Join runs, or compare their variants."""
    parser = argparse.ArgumentParser(
        prog="python -m keep.reproduce.worlds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FILE")
    what.add_argument("--variants", nargs="+", metavar="NAME")
    given = parser.parse_args(arguments)
    try:
        if given.variants:
            variants = {name: variant_worlds(given.runs, name) for name in given.variants}
            Console().print(compared(variants), soft_wrap=True, highlight=False, markup=False)
        else:
            write_text(given.out, results_text(join(given.runs)))
    except (GkcError, ValueError) as exc:
        raise SystemExit(str(exc)) from exc


if __name__ == "__main__":
    main()
