"""The model card of a bundle: what it is, what it learned from, how good it is, what it is for."""

from __future__ import annotations

import dataclasses
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from gkc.knowledge import row_width
from keep.checkpoint import CELLS, Distillation, Pretraining
from keep.compatibility import METHOD, Compatibility
from keep.config import TASKS
from keep.log import LogInfo
from keep.metrics_log import DayMetrics

CARD_FILE = "model_card.md"
LAST_DAYS = 3
"""Days whose metrics are shown."""
PACKAGES = ("gkc", "torch", "onnx", "onnxruntime", "numpy", "pyarrow")
"""What the vectors may depend on."""
ROOT = Path(__file__).resolve().parents[1]
"""Where the code lies: a checkout's root, or the folder that it is installed in."""

_CARD = """\
# {name}

Knowledge of users, items and user-category pairs, pretrained by KEEP on everything that the log
below shows its users, for ranking models to plug in. ONNX models and the tables they are run on;
the exporter turns them into one immutable version of vectors. `manifest.json` beside this file
describes the format.

## Model

- **last day learned from (the version's day):** {day}
- **architecture:** KEEP (Zhang, Chan et al., CIKM 2022, https://doi.org/10.1145/3511808.3557106):
  a DIN teacher, a two-tower student (user and item vectors, section 5.2.1) and a category student
  (user-category vectors, section 5.2.2)
- **tasks:** {tasks}; their parts of a vector lie side by side in this order
- **widths:** user and item vectors {config.dim} each, \
user-category vectors {config.category_dim}; a row
  [K_u, K_i, K_u * K_i, K_uc] is {row} wide
- **rows:** {rows}
- **largest difference between ONNX and torch:** {difference:.1e}
- **in the axes of:** {axes}
- {coverage}

Settings of pretraining:

{settings}

## Distillation

{distillation}

## Training data

- **log:** {info.name}
- **source:** {info.source}
- **citation:** {citation}
- **licence:** {licence}
- **SHA-256 of its values:** {info.checksum}
- **days:** {learned} of {days}; none after {day} was learned from
- **whole log:** {info.rows:,} impressions, {info.users:,} users, {info.items:,} items, \
{info.clicks:,} clicks,
  {info.carts:,} carts, {info.conversions:,} conversions

## Evaluation

{evaluation}

## Intended use and limits

- Made for ranking: as further input of a model that predicts clicks, carts or purchases in a part
  of the domain that the log covers. It was not made, and not checked, for any other judgement of
  people.
- Frozen at day {day}: what users did later is not in it. A model that plugs it in is trained on
  later days, and tested on days later still.
- One version offline and online: axes of vectors mean something else in another version, so a
  model is served the version that it was trained with.
- Ids that were not seen up to day {day} get the vector of the unknown id.
- It learned from what was shown and clicked: it repeats the preferences of the system that chose
  what to show, and knows little of rare items and users.
- `users.parquet` holds each user's latest clicks and the vectors tell of them: treat the bundle as
  the log itself.

## Software

- **code that wrote the bundle:** {commit}
- **versions:** {versions}
"""


def model_card(
    name: str,
    state: Pretraining,
    info: LogInfo,
    rows: Mapping[str, int],
    difference: float,
    coverage: str,
    metrics: Sequence[DayMetrics],
    compatible_with: Compatibility | None = None,
) -> str:
    """Write the card of a bundle, with metrics as ``keep pretrain`` left them.

    References
    ----------
    Mitchell et al., "Model Cards for Model Reporting", FAT* 2019: the sections.
    """
    config = state.config
    settings = dataclasses.asdict(config)
    return _CARD.format(
        name=name,
        axes="no other version" if compatible_with is None else _axes(compatible_with),
        day=state.day,
        tasks=", ".join(TASKS),
        config=config,
        info=info,
        row=row_width(config.dim, config.category_dim),
        rows=", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in rows.items()),
        difference=difference,
        coverage=coverage,
        settings=_table(["setting", "value"], [[f"`{k}`", f"{v}"] for k, v in settings.items()]),
        distillation=_distillation(state.distillation),
        citation=info.citation or "none named",
        licence=info.licence or "none named",
        learned=_spans([day for day in info.days if day <= state.day]),
        days=_spans(info.days),
        evaluation=_evaluation(metrics),
        commit=commit_of(ROOT, "--abbrev=40") or "commit unknown",
        versions=", ".join(
            [f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]
        ),
    )


def commit_of(root: Path, *options: str) -> str | None:
    """Tell which commit a checkout's root is at, with ``-dirty`` if tracked files were changed.

    There is none if it is no checkout's root, or git is not there. Options are ``git describe``'s.
    """
    if not (root / ".git").exists():
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", *options]
    try:
        described = subprocess.run(words, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def _distillation(done: Distillation | None) -> str:
    if done is None:
        return "The students are as pretraining left them."
    heads = ["student", "task", *CELLS]
    lines = [
        [name, task, *(f"{a:.4f} → {b:.4f}" for a, b in zip(lesson.before[task], now, strict=True))]
        for name, lesson in done.students.items()
        for task, now in lesson.after.items()
    ]
    courses = ", ".join(
        f"`{name}` {lesson.steps} steps in {lesson.seconds:.1f} s"
        for name, lesson in done.students.items()
    )
    settings = ", ".join(f"{name} {value}" for name, value in done.settings.items())
    return (
        "Copies of the students learned once more, from the frozen teacher and without labels, on\n"
        f"{done.pairs:,} pairs that the log never showed ({done.pairs_per_user:.1f} a user): "
        f"{courses}.\nSettings: {settings}.\n\nHow a user's logits correlate with the teacher's, "
        "before and after, over pairs never shown; a\ntenth of users and of items was never "
        "drawn:\n\n" + _table(heads, lines)
    )


def _evaluation(metrics: Sequence[DayMetrics]) -> str:
    if not metrics:
        return "The checkpoint has no metrics beside it: it was trained on one day, or elsewhere."
    last = sorted({line.day for line in metrics})[-LAST_DAYS:]
    heads = ["day", "model", "task", "GAUC", "AUC", "log loss", "calibration"]
    heads += ["samples", "positive rate"]
    lines = []
    for line in metrics:
        if line.day in last:
            m = line.metrics
            values = (m.gauc, m.auc, m.log_loss, m.calibration)
            numbers = ["-" if math.isnan(value) else f"{value:.4f}" for value in values]
            counts = [f"{m.impressions:,}", f"{m.positive_rate:.4f}"]
            lines.append([str(line.day), line.model, line.task, *numbers, *counts])
    return (
        "Each day was predicted before anything of it was learned (progressive validation): click\n"
        "on all impressions, conversion and cart on clicks. The vectors come from `two_tower` and\n"
        "`category`. Calibration is mean prediction over observed rate.\n\n" + _table(heads, lines)
    )


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def _spans(days: Sequence[int]) -> str:
    """Write ascending days, of which there may be hundreds, as 1-7, 9."""
    spans: list[list[int]] = []
    for day in days:
        if spans and day == spans[-1][1] + 1:
            spans[-1][1] = day
        else:
            spans.append([day, day])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _axes(older: Compatibility) -> str:
    errors = ", ".join(f"{part} {error:.2f}" for part, error in older.relative_error.items())
    return f"checkpoint {older.checkpoint}, day {older.day} ({METHOD}; error {errors})"
