"""What trials found: their GAUC, the best of their options, and their log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keep.atomic import read_json
from keep.reproduce.jobs import PretrainTrial, Trial
from keep.reproduce.predictions import read_predictions
from keep.reproduce.statistics import UserScores, user_scores

Trials = Sequence[Trial] | Sequence[PretrainTrial] | Sequence[Trial | PretrainTrial]


def gaucs(out: Path, trials: Trials) -> list[float]:
    """Read the GAUC of those trials that are done."""
    results = (read_json(trial.file(out)) for trial in trials)
    return [result["gauc"] for result in results if result]


def trial_scores(out: Path, trials: Sequence[Trial]) -> UserScores:
    """Read what trials of the same options, one a seed, said of the tuning day."""
    files = {trial.seed: trial.predictions(out) for trial in trials}
    return user_scores({seed: read_predictions(file) for seed, file in files.items()})


def best_options(out: Path, trials: Trials) -> dict[str, Any]:
    """Find the options with the highest mean GAUC over the tuning seeds."""
    gauc: dict[str, list[float]] = {}
    options: dict[str, dict[str, Any]] = {}
    for trial in trials:
        values = read_json(trial.file(out))
        key = str(values["options"])
        options[key] = values["options"]
        gauc.setdefault(key, []).append(values["gauc"])
    best = max(gauc, key=lambda key: float(np.mean(gauc[key])))
    return options[best]


def trial_log(out: Path, method: str, trials: Trials) -> list[dict[str, Any]]:
    """List a method's trials as ``results.json`` has them, each with its GAUC by tuning seed."""
    log: dict[str, dict[str, Any]] = {}
    for trial in trials:
        result = read_json(trial.file(out))
        is_variant = result["method"].startswith("variant")
        what = result["method"] if is_variant else result["options"]
        entry = {"method": method, "options": what, "day": result["day"]}
        by_seed = log.setdefault(str(what), {**entry, "gauc": {}})["gauc"]
        by_seed[str(result["seed"])] = result["gauc"]
    return list(log.values())
