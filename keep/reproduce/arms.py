"""How knowledge joins a model that goes on training: arms from one checkpoint, held side by side.

A Base that learned up to the version's day goes on with the day after it. What an arm costs at the
start and what it gains meanwhile are both in its progressive GAUC: each batch is scored before it
is learned.

References
----------
KEEP (CIKM'22), section 4.3: why the paper adds instead of concatenating.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gkc.arrays import F32
from keep.atomic import json_values
from keep.data import Samples
from keep.reproduce.jobs import KNOWLEDGE, Source, chosen_options, until_version
from keep.reproduce.predictions import read_predictions, write_predictions
from keep.reproduce.results import DIGITS
from keep.reproduce.statistics import UserScores, gauc_per_seed, paired_lift, user_scores
from keep.reproduce.workshop import Workshop
from keep.systems import base
from keep.systems.plugged import Options, Plugged, Plugging, go_on
from keep.systems.system import fit_progressively, inputs

ARMS: dict[str, Plugging | None] = {
    "no knowledge": None,
    "add": "add",
    "concat, W kept": "concat",
    "concat, first layer anew": "concat anew",
}


@dataclass(frozen=True)
class Arm:
    """Go on with a trained Base and knowledge joined in one way, over the day after the version."""

    arm: str
    """One of ``ARMS``."""
    seed: int
    teacher: str
    """Which pretraining."""

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"go on, {self.arm}, seed {self.seed}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        folder = self.arm.replace(",", "").replace(" ", "-")
        return out / "work" / "arms" / folder / f"{self.seed}.parquet"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        day = shop.log.info.train_days[0]
        samples = shop.data(day).sub_domain(day)
        scores = self._scores(shop, samples)
        write_predictions(
            self.file(shop.out), samples.day.user, samples.day.item, samples.day.click, scores
        )

    def _scores(self, shop: Workshop, samples: Samples) -> F32:
        data = shop.data(samples.number)
        start = shop.remember(
            ("gone on with", self.seed), lambda: until_version(shop, data, self.seed, task=0)
        )
        options = chosen_options(shop.out, "keep")
        assert isinstance(options, Options)
        plugging = ARMS[self.arm]
        if plugging is not None:
            knowledge = KNOWLEDGE["teacher"](shop, Source(self.teacher, ""))
            options = dataclasses.replace(options, plugging=plugging)
            return go_on(data, samples, options, self.seed, Plugged(knowledge, start))
        model: base.Base = copy.deepcopy(start)
        model.train()
        return fit_progressively(
            model.parameters(),
            samples,
            lambda day, positions: model(*inputs(day, positions)),
            options,
            self.seed,
        )


def compared(out: Path, seeds: Sequence[int], teacher: str) -> list[dict[str, Any]]:
    """Hold the arms side by side: ``name``, ``gauc`` by seed, ``lift`` over none, ``interval``."""

    def scores(arm: str) -> UserScores:
        files = {seed: Arm(arm, seed, teacher).file(out) for seed in seeds}
        return user_scores({seed: read_predictions(file) for seed, file in files.items()})

    by_arm = {arm: scores(arm) for arm in ARMS}
    rows = []
    for arm, found in by_arm.items():
        lift = paired_lift([found], [by_arm["no knowledge"]])
        rows.append(
            {
                "name": arm,
                "gauc": gauc_per_seed([found]).tolist(),
                "lift": lift.mean,
                "interval": (lift.low, lift.high),
            }
        )
    return list(json_values(rows, DIGITS))
