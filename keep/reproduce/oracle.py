"""The oracle, which knows the truth, held against every run: one that ranks better has cheated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keep.atomic import json_values
from keep.config import TASKS
from keep.reproduce.jobs import Test
from keep.reproduce.plan import ORACLE, Entries, Run, runs_of
from keep.reproduce.predictions import read_predictions
from keep.reproduce.results import DIGITS
from keep.reproduce.statistics import Worlds, paired_lift, user_scores


def oracle_over_others(out: Path, entries: Entries, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Compare the oracle, paired, with every other run that ranks clicks; none without an oracle.

    Each is ``over``, the run's name, ``lift`` and ``interval``, as ``results.json`` holds them.
    """
    clicks = [run for run in runs_of(entries) if TASKS[run.task] == "click"]
    if ORACLE not in clicks:
        return []
    best, compared = _scores(out, ORACLE, seeds), []
    for run in clicks:
        if run != ORACLE:
            over = paired_lift(best, _scores(out, run, seeds))
            lift = {"lift": over.mean, "interval": (over.low, over.high)}
            compared.append({"over": run.name, **json_values(lift, DIGITS)})
    return compared


def _scores(out: Path, run: Run, seeds: Sequence[int]) -> Worlds:
    own = seeds if run.has_seed else seeds[:1]
    return [user_scores({seed: read_predictions(Test(run, seed).file(out)) for seed in own})]
