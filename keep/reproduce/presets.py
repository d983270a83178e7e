"""How much a reproduction tries, and what: settings of pretraining, students and plug-ins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """How much is tried."""

    seeds: int
    """Reported seeds; each pretrains and trains everything anew."""
    tuning_seeds: int
    trials: int
    """Options tried for each system."""
    pretraining_trials: int
    """Of these, settings of the teacher's pretraining tried for KEEP."""
    student_trials: int
    """Of these, ``VARIANTS`` tried for KEEP, the first ones."""
    needs_plan: bool
    """Whether figures are to come of it: without a plan the test day is then not scored."""


PRESETS = {
    "small": Preset(
        seeds=2, tuning_seeds=1, trials=3, pretraining_trials=1, student_trials=1, needs_plan=False
    ),
    "full": Preset(
        seeds=5, tuning_seeds=2, trials=12, pretraining_trials=3, student_trials=3, needs_plan=True
    ),
}

PRETRAINING_GRID: tuple[dict[str, Any], ...] = (
    {},
    {"embedding_std": 0.15},
    {"pairs": "batch"},
)
"""Settings of pretraining that are tried, as differences to the defaults."""

VARIANTS: dict[str, dict[str, Any]] = {
    "a tower per task": {},
    "distilled at the freeze": {"freeze": {}},
    "distillation, and at the freeze": {"distillation": 1.0, "freeze": {}},
}
"""Students that are tried for KEEP, as differences to the pretraining chosen, none of which changes
the teacher; those of ``freeze`` to ``keep.config.DistillationConfig``. The cheapest first, another
is chosen only if both together are surely worth more with it on the tuning day."""

PLACES: dict[str, dict[str, Any]] = {
    "add": {},
    "add, layer 1 after its activation": {"after_activation": True},
    "add, layer 2": {"layer": 2},
    "add, layer 2 after its activation": {"layer": 2, "after_activation": True},
    "concat": {"plugging": "concat"},
}
"""Where knowledge can join Base, as differences to KEEP's options; compared, but not chosen."""

UNCHOSEN_VARIANTS: dict[str, dict[str, Any]] = {"one shared tower": {"towers": "shared"}}
"""Students that are compared with those, but not chosen: the paper reads otherwise."""

DISTILLATIONS: dict[str, dict[str, Any]] = {
    "conversion and cart .3": {"task_weight": 0.3},
    "conversion and cart 0": {"task_weight": 0.0},
    "hidden 1": {"hidden_weight": 1.0},
    "tables trained": {"train_tables": True},
}
"""Ways of distillation that are compared with the default one, not chosen, as differences to it."""

WEIGHTINGS: dict[str, dict[str, Any]] = {
    "losses as means": {"weighting": "means"},
    "losses as sums": {"weighting": "sums"},
}
"""Teachers that are compared with the one chosen, as differences to its pretraining, where no test
day is read; not chosen. The chosen one's K(u, i) is what ``plug-in add`` takes."""
