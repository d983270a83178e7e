"""Quality at fewer bytes: how narrow vectors may be before what they are worth is lost.

All students are distilled at the freeze from one teacher, and plugged in by chosen columns. Figures
are of the tuning day: the narrowest width that is good enough is a choice. Beside them stand those
of the default width that were distilled in other ways.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from keep.atomic import json_values, read_json, write_json
from keep.bundle import pair_rows
from keep.checkpoint import Pretraining, save_checkpoint
from keep.config import MODELS, TOP_CATEGORIES, DistillationConfig, PretrainConfig
from keep.distillation import distil
from keep.models import Models, table_sizes
from keep.reproduce.jobs import Pretrain, Trial, run_options
from keep.reproduce.plan import Run
from keep.reproduce.presets import DISTILLATIONS
from keep.reproduce.results import DIGITS
from keep.reproduce.statistics import (
    Worlds,
    gauc_per_seed,
    paired_lift,
    ratio_of_lifts,
)
from keep.reproduce.trials import trial_scores
from keep.reproduce.workshop import PretrainingPlan, Workshop

TOWERS = ("shared", "task")
"""D = 64 and 192, where towers are 64 wide."""
CATEGORY_WIDTHS = (1, 8, 16, 32, 0)
"""Numbers of K_uc a task; D_c = 3 logits, 24, 48, 96, and 192 where the teacher's are 64 wide."""
GOOD_ENOUGH = 0.001
"""How much less GAUC than the best's is given for fewer bytes."""
BYTES_OF_NUMBER = 2
"""In f16."""


@dataclass(frozen=True)
class Width:
    """How wide a version's vectors are."""

    towers: str
    category_width: int
    way: str = ""
    """Of ``DISTILLATIONS``, if they are distilled in another way than by default."""

    @property
    def pretrainings(self) -> tuple[str, str]:
        """Name the pretrainings of its two-tower and of its category student."""
        return f"width-{self.towers}", f"width-category-{self.category_width}"

    @property
    def distilled(self) -> str:
        """Name the folder of its distilled students."""
        return f"distilled-{self.towers}-{self.category_width}{self.way and ', '}{self.way}"

    def of(self, config: PretrainConfig) -> PretrainConfig:
        """Change a pretraining's settings to these widths."""
        return dataclasses.replace(
            config, towers=self.towers, category_width=self.category_width, distillation=0.0
        )


WIDTHS = tuple(Width(towers, width) for towers, width in product(TOWERS, CATEGORY_WIDTHS))
WAYS = tuple(Width("task", 0, way) for way in DISTILLATIONS)


@dataclass(frozen=True)
class Distil:
    """Distil a width's students from the tuned teacher."""

    width: Width
    teacher: str

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"distil {self.width.distilled}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return out / "work" / "widths" / f"{self.width.distilled}.json"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        settings = DistillationConfig(**DISTILLATIONS.get(self.width.way, {}))
        state = distil(assembled(shop, self.width, self.teacher), shop.log, settings)
        save_checkpoint(state, shop.checkpoint(self.width.distilled))
        users, _ = pair_rows(state.features, TOP_CATEGORIES)
        numbers = state.config.dim + len(users) / len(np.unique(users)) * state.config.category_dim
        assert state.distillation is not None
        facts = {
            "dim": state.config.dim,
            "category_dim": state.config.category_dim,
            "bytes_per_user": BYTES_OF_NUMBER * numbers,
            "correlations": {
                student: lesson.after for student, lesson in state.distillation.students.items()
            },
        }
        write_json(self.file(shop.out), json_values(facts, DIGITS))


def assembled(shop: Workshop, width: Width, teacher: str) -> Pretraining:
    """Put a teacher and students that were pretrained apart into one state."""
    names = (teacher, *width.pretrainings)
    parts = [shop.state(name) for name in names]
    state, config = parts[0], width.of(parts[0].config)
    models = Models(table_sizes(state.features), config)
    for model, part in zip(MODELS, parts, strict=True):
        own = part.models.get_submodule(model)
        models.get_submodule(model).load_state_dict(own.state_dict())
    return dataclasses.replace(state, config=config, models=models, optimizers={})


@dataclass(frozen=True)
class WidthComparison:
    """The stages that compare widths, and ways of distillation."""

    config: PretrainConfig
    """The tuned teacher's."""
    teacher: str
    """Name of its pretraining."""
    seeds: tuple[int, ...]

    def pretrainings(self) -> list[Pretrain]:
        """List the students to pretrain, each kind once for each of its widths."""
        plans = {}
        for width in WIDTHS:
            for name, model in zip(width.pretrainings, MODELS[1:], strict=True):
                plans[name] = PretrainingPlan(name, (model,), width.of(self.config))
        return list(map(Pretrain, plans.values()))

    def distillations(self) -> list[Distil]:
        """List the widths' distillations."""
        return [Distil(width, self.teacher) for width in (*WIDTHS, *WAYS)]

    def rankings(self, out: Path) -> list[Trial]:
        """List what is trained downstream: without knowledge, with the teacher's, with each."""
        rows = [("base", "", ""), *((name, name, self.teacher) for name in _TEACHERS)]
        rows += [(each.distilled, "both_logits", each.distilled) for each in (*WIDTHS, *WAYS)]
        return [
            Trial(_method(row), system, 0, run_options(out, run), seed, knowledge, pretraining)
            for row, knowledge, pretraining in rows
            for system in ["keep" if knowledge else "base"]
            for run in [Run(system, knowledge=knowledge)]
            for seed in self.seeds
        ]

    def table(self, out: Path) -> dict[str, Any]:
        """Hold the widths side by side, as ``results.json`` has it.

        Returns
        -------
        dict
            ``base`` and ``teacher``, their GAUC by seed, the better of its K(u, i) and its logits
            alone; ``rows``, each with ``dim``, ``category_dim``, ``bytes_per_user``, ``gauc``,
            ``lift`` and ``interval``, ``share`` of the teacher's lift, and ``correlations`` of each
            student with the teacher; ``good_enough``, the place of the one with fewest bytes that
            ranks within ``least_loss`` of the best.
        """
        base = self._scores(out, "base")
        teacher = max((self._scores(out, name) for name in _TEACHERS), key=_mean)
        rows = []
        for job in self.distillations():
            if job.width.way:
                continue
            found = self._scores(out, job.width.distilled)
            lift, share = paired_lift(found, base), ratio_of_lifts(found, teacher, base)
            rows.append(
                {
                    **read_json(job.file(out)),
                    "gauc": gauc_per_seed(found).tolist(),
                    "lift": lift.mean,
                    "interval": (lift.low, lift.high),
                    "share": {"value": share.value, "interval": (share.low, share.high)},
                }
            )
        rows.sort(key=lambda row: float(row["bytes_per_user"]))
        values = {
            "base": gauc_per_seed(base).tolist(),
            "teacher": gauc_per_seed(teacher).tolist(),
            "rows": rows,
            "least_loss": GOOD_ENOUGH,
            "good_enough": good_enough([float(np.mean(row["gauc"])) for row in rows]),
        }
        return dict(json_values(values, DIGITS))

    def _scores(self, out: Path, row: str) -> Worlds:
        return [trial_scores(out, [t for t in self.rankings(out) if t.method == _method(row)])]


_TEACHERS = ("teacher", "teacher_logits")


def _method(row: str) -> str:
    return f"variant {row}"


def _mean(row: Worlds) -> float:
    return float(gauc_per_seed(row).mean())


def good_enough(gauc: Sequence[float]) -> int:
    """Find the first of some rows, fewest bytes first, that ranks nearly as well as the best."""
    return next(place for place, value in enumerate(gauc) if value >= max(gauc) - GOOD_ENOUGH)
