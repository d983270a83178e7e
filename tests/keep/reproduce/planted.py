"""Predictions with planted lifts, and a run's results made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keep.reproduce.predictions import Predictions, prediction_path, write_predictions
from keep.reproduce.results import PlannedRow, build_results

SEEDS = (11, 12, 13)

FACTS: dict[str, Any] = {
    "command": "keep reproduce --log LOG --table all --preset small --out DIR",
    "preset": "small",
    "log": {"name": "planted", "checksum": "abc", "days": (1, 2, 3)},
    "seeds": SEEDS,
    "tuning_seeds": (1, 2),
    "tuned": {"Base": {"batch": 64, "lr": 1e-7}},
    "trials": ({"method": "Base", "options": {"batch": 64}, "gauc": {"1": float("nan")}},),
    "seconds": 90.0,
    "machine": "2 cores",
    "date": "2026-11-24",
    "commit": "0123abc",
    "versions": {"numpy": "2"},
}


def impressions(
    users: int = 40, per_user: int = 12, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and labels of a test day."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users, dtype=np.int64), per_user)
    return user, rng.integers(1000, size=len(user)), rng.random(len(user)) < 0.4


def ranked(strength: float, seed: int, users: int = 40, day_seed: int = 0) -> Predictions:
    """A ranking of the test day that is the better, the greater its strength."""
    user, item, label = impressions(users, seed=day_seed)
    score = strength * label + np.random.default_rng([1, seed]).normal(size=len(label))
    return Predictions(user, item, label, score.astype(np.float32))


def store(directory: Path, table: str, row: str, seed: int, found: Predictions) -> None:
    """Write predictions where a row's belong."""
    path = prediction_path(directory, table, row, seed)
    write_predictions(path, found.user, found.item, found.label, found.score)


PLAN = {
    "2": [
        PlannedRow("Base", None, "Base"),
        PlannedRow("CoNet", "Base", "CoNet"),
        PlannedRow("KEEP", "Base", "KEEP", against=("CoNet",)),
        PlannedRow("Oracle", "Base", deterministic=True, note="the ground truth"),
    ],
    "6": [
        PlannedRow("Base", None, "Base"),
        PlannedRow("KEEP (2 days)", "Base"),
        PlannedRow("KEEP (4 days)", "Base"),
    ],
    "7": [
        PlannedRow("0-50", "0-50 Base", "0-50"),
        PlannedRow(">300", ">300 Base", ">300", gains_less_than="0-50"),
    ],
    "8": [
        PlannedRow("Base", None, "Base"),
        PlannedRow("KEEP", "Base", "KEEP"),
        PlannedRow("decomposition", "Base", "decomposition", share_of=("KEEP",)),
    ],
}
STRENGTHS = {
    ("2", "Base"): 1.0,
    ("2", "CoNet"): 1.1,
    ("2", "KEEP"): 1.6,
    ("2", "Oracle"): 3.0,
    ("6", "Base"): 1.0,
    ("6", "KEEP (2 days)"): 1.3,
    ("6", "KEEP (4 days)"): 1.5,
    ("7", "0-50 Base"): 1.0,
    ("7", "0-50"): 1.6,
    ("7", ">300 Base"): 1.2,
    ("7", ">300"): 1.5,
    ("8", "Base"): 1.0,
    ("8", "KEEP"): 2.0,
    ("8", "decomposition"): 1.8,
}


def stored(directory: Path, world: int = 0) -> None:
    """Store predictions of every row of the plan; each group of table 7 has users of its own.

    Every world has impressions of its own.
    """
    for (table, row), strength in STRENGTHS.items():
        day_seed = 1 if row.startswith("0-50") else 2 if row.startswith(">300") else 0
        day_seed += 10 * world
        for seed in SEEDS[:1] if row == "Oracle" else SEEDS:
            store(directory, table, row, seed, ranked(strength, seed, day_seed=day_seed))


def planted_results(directory: Path) -> dict[str, Any]:
    """Store everything and build the results."""
    stored(directory)
    return build_results(directory, PLAN, FACTS)
