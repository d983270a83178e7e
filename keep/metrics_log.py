"""Metrics of each day of pretraining beside a checkpoint: JSON lines, and files for TensorBoard.

::

    CKPT/metrics.jsonl              a line per day, model and task, ascending by day
    CKPT/tensorboard/<model>/       the same values as event files: tensorboard --logdir

Both are written whole, so that a killed run leaves neither torn nor doubled lines.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from keep.atomic import json_values, write_text
from keep.checkpoint import CheckpointError
from keep.metrics import Metrics

METRICS_FILE = "metrics.jsonl"
TENSORBOARD = "tensorboard"
CURVES = ("gauc", "auc", "log_loss", "calibration")
"""What TensorBoard plots over the days."""


@dataclass(frozen=True)
class DayMetrics:
    """Metrics of one model's predictions for one task, made before it learned of the day."""

    day: int
    model: str
    task: str
    metrics: Metrics


def write_metrics(checkpoint: Path, lines: Sequence[DayMetrics]) -> None:
    """Write all days' metrics to a checkpoint's directory, in place of what is there."""
    text = "".join(_to_json(line) + "\n" for line in lines)
    write_text(checkpoint / METRICS_FILE, text)
    _write_tensorboard(checkpoint / TENSORBOARD, lines)


def read_metrics(checkpoint: Path, until: int) -> list[DayMetrics]:
    """Read the metrics that lie beside a checkpoint, up to its own day.

    A run that was killed while it saved a day may have left metrics of that day.

    Raises
    ------
    CheckpointError
        If a line is not as ``write_metrics`` writes it.
    """
    file = checkpoint / METRICS_FILE
    if not file.exists():
        return []
    lines = []
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            lines.append(_from_json(text))
        except (ValueError, KeyError, TypeError) as exc:
            problem = (
                f"{METRICS_FILE}, line {number} is damaged ({exc}); remove the file or mend it"
            )
            raise CheckpointError(checkpoint, problem) from exc
    return [line for line in lines if line.day <= until]


def _to_json(line: DayMetrics) -> str:
    """Write one line; what does not exist (NaN) or has no bound is null."""
    where = {"day": line.day, "model": line.model, "task": line.task}
    return json.dumps(json_values(where | dataclasses.asdict(line.metrics)))


def _from_json(text: str) -> DayMetrics:
    values = json.loads(text)
    day, model, task = (values.pop(name) for name in ("day", "model", "task"))
    finite: dict[str, Any] = {
        name: math.nan if value is None else value for name, value in values.items()
    }
    return DayMetrics(int(day), model, task, Metrics(**finite))


def _write_tensorboard(folder: Path, lines: Sequence[DayMetrics]) -> None:
    """Write a run per model, so that TensorBoard lays the models' curves over each other."""
    shutil.rmtree(folder, ignore_errors=True)
    for model in dict.fromkeys(line.model for line in lines):
        # purge_step: a TensorBoard that is open drops the points of the files before these.
        with SummaryWriter(str(folder / model), purge_step=0) as writer:
            for line in lines:
                if line.model == model:
                    for curve in CURVES:
                        value = getattr(line.metrics, curve)
                        if math.isfinite(value):
                            writer.add_scalar(f"{line.task}/{curve}", value, line.day)
