"""From stored scores to the tables of mismatch costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keep.atomic import json_values, read_json
from keep.drift.measures import CONTROLS, Measure, Setting
from keep.reproduce.predictions import read_predictions
from keep.reproduce.report import interval_cell, markdown_table, share_cell, signed
from keep.reproduce.results import DIGITS
from keep.reproduce.statistics import (
    Worlds,
    gauc_per_seed,
    paired_lift,
    ratio_of_lifts,
    user_scores,
)


def rows_of_lag(
    out: Path, at: Setting, seeds: Sequence[int], chosen: Mapping[str, float], lag: int
) -> list[dict[str, Any]]:
    """Compare the ways to version v + k, a row of JSON values each.

    It has GAUC by seed; ``cost``, stale minus it, with its 95 % interval; ``matched``; ``removed``,
    the share of the fresh-seed cost that is gone.
    """

    def measures(method: str) -> dict[int, Measure]:
        strength, days = (0.0, 0) if method in CONTROLS else (chosen[method], lag)
        return {seed: Measure("testing", method, strength, seed, days, at) for seed in seeds}

    def scores(method: str, which: str = "mismatched") -> Worlds:
        files = {seed: of.predictions(out, which) for seed, of in measures(method).items()}
        return [user_scores({seed: read_predictions(file) for seed, file in files.items()})]

    stale, none, fresh = scores("stale"), scores("no knowledge"), scores("fresh seed")
    rows: list[dict[str, Any]] = [_row("no knowledge", none, stale), _row("stale", stale, stale)]
    for method, strength in chosen.items():
        mismatched, matched = scores(method), scores(method, "matched")
        row = _row(method, mismatched, stale)
        row["strength"] = strength
        row["matched"] = _row("matched", matched, stale)
        removed = ratio_of_lifts(mismatched, stale, fresh)
        row["removed"] = {"value": removed.value, "interval": [removed.low, removed.high]}
        errors = [read_json(measure.errors(out)) for measure in measures(method).values()]
        if errors[0]:
            row["relative_error"] = {
                part: float(np.mean([of_seed[part] for of_seed in errors])) for part in errors[0]
            }
        rows.append(row)
    return [json_values(row, DIGITS) for row in rows]


def _row(name: str, scores: Worlds, stale: Worlds) -> dict[str, Any]:
    """Say a row's GAUC and its mismatch cost: stale minus it."""
    lift = paired_lift(scores, stale)
    return {
        "name": name,
        "gauc": gauc_per_seed(scores).tolist(),
        "cost": -lift.mean,
        "interval": [-lift.high, -lift.low],
    }


def report(results: Mapping[str, Any]) -> str:
    """Put the results in Markdown."""
    at = results["setting"]["testing"]
    lines = [
        "# Serving another version than the trained one",
        "",
        f"Log {results['log']['name']}, checksum {results['log']['checksum'][:12]}. Downstream "
        f"models are trained on days {', '.join(map(str, at['train_days']))} with version v = day "
        f"{at['version']} and tested on day {at['test_day']}; seeds: {len(results['seeds'])}. "
        "Mismatch cost: GAUC when v is served minus GAUC when v + k is; below zero, the newer "
        "version is better even so. Matched: trained and served v + k. Removed: share of the "
        "fresh-seed mismatch cost that is gone, where there is such a cost.",
    ]
    for lag, rows in results["lags"].items():
        cells = [
            (
                row["name"] + (f" ({row['strength']:g})" if row.get("strength") else ""),
                f"{np.mean(row['gauc']):.4f}",
                f"{signed(row['cost'])} ({interval_cell(row['interval'])})",
                f"{np.mean(row['matched']['gauc']):.4f}" if "matched" in row else "",
                share_cell(row.get("removed"), missing=""),
                ", ".join(
                    f"{part} {error:.2f}" for part, error in row.get("relative_error", {}).items()
                ),
            )
            for row in rows
        ]
        header = ("served", "GAUC", "mismatch cost", "matched", "removed", "relative error")
        lines += ["", f"## k = {lag}", "", markdown_table(header, cells)]
    lines += [
        "",
        f"{results['command']}; {results['seconds'] / 60:.0f} min on {results['machine']}, "
        f"{results['date']}, commit {results['commit']}. Strengths were chosen on day "
        f"{results['setting']['choosing']['test_day']}.",
        "",
    ]
    return "\n".join(lines)
