"""Pretraining's one step, a day: teacher and students learn from it at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch
from torch import Tensor, nn

from gkc.progress import progress
from keep.checkpoint import Pretraining, make_optimizers
from keep.config import MODELS, TASKS, PretrainConfig
from keep.features import Batch, Features, Rows, training_batches
from keep.log import Day
from keep.metrics import Metrics
from keep.metrics_log import DayMetrics
from keep.models import (
    Models,
    distillation_loss,
    grow_tables,
    table_sizes,
    task_losses,
)
from keep.progressive import validate
from keep.threads import one_thread_each

ExtraLoss = Callable[[str, Batch, list[Tensor]], Tensor]
"""A model's name, a step's batch and the model's logits for it to a further loss, shape ()."""

Taught = list[list[Tensor]] | None
"""The teacher's logits of a day's batches, each as a model gives them; None without a teacher."""

BEFORE_ANY_DAY = -1
"""Days of a log are at least 0."""


@dataclass(frozen=True)
class DayReport:
    """What one day of training did."""

    day: int
    impressions: int
    losses: dict[str, tuple[float, ...]]
    """Model name to its mean loss per task, in the order of ``TASKS``, weighed as in training."""
    metrics: dict[str, dict[str, Metrics]]
    """Model name to its metrics per task, of predictions made before anything of the day was
    learned (``keep.progressive``); empty on the first day."""
    seconds: float

    def lines(self) -> list[str]:
        """Put the report in words, one line per model."""
        head = f"day {self.day}: {self.impressions:,} impressions in {self.seconds:.1f} s"
        rows = []
        for name, losses in self.losses.items():
            per_task = " ".join(
                f"{task} {loss:.4f}" for task, loss in zip(TASKS, losses, strict=True)
            )
            before = self.metrics.get(name, {}).get("click")
            known = "" if before is None else f"   click GAUC before {before.gauc:.4f}"
            rows.append(f"  {name:<9} loss {per_task}{known}")
        return [head, *rows]

    def day_metrics(self) -> list[DayMetrics]:
        """List the metrics as ``metrics.jsonl`` keeps them, one per model and task."""
        return [
            DayMetrics(self.day, model, task, values)
            for model, per_task in self.metrics.items()
            for task, values in per_task.items()
        ]


def start(
    day: Day,
    config: PretrainConfig,
    models: Sequence[str] = MODELS,
    string_ids: tuple[str, ...] = (),
) -> Pretraining:
    """Make fresh models whose tables fit the ids of the first day; some may be strings."""
    features = Features(config.behaviours)
    features.grow(day)
    fresh = Models(table_sizes(features), config, models)
    optimizers = make_optimizers(fresh, config)
    grow_tables(fresh, optimizers, features)  # nothing to grow, but the items' shops to copy
    return Pretraining(config, BEFORE_ANY_DAY, features, fresh, optimizers, string_ids)


def train_day(
    state: Pretraining, number: int, day: Day, extra_loss: ExtraLoss | None = None
) -> DayReport:
    """Learn from one day: grow the tables, take its steps, then remember its clicks.

    The models train at the same time, each in its own thread, on the same batches. With
    distillation the teacher learns first, then the students. ``state`` is changed in place; the
    day's number and the seed fix all chance of the day. The report's losses are without the extra
    ones, its metrics are of predictions made before the day was learned from.
    """
    began = time.perf_counter()
    config, features, models = state.config, state.features, state.models
    features.grow(day)
    grow_tables(models, state.optimizers, features)
    rows = features.encode(day)
    metrics, losses = {}, {}
    stop = Event()
    with progress(f"day {number}", len(rows) * len(state.optimizers)) as advance:

        def learn(name: str, taught: Taught) -> tuple[dict[str, Metrics], tuple[float, ...]]:
            model, optimizer = models.get_submodule(name), state.optimizers[name]
            # Without state, nothing was learned on an earlier day.
            before = validate(model, rows, features) if optimizer.state else {}
            counted = (batch for batch in _batches(state, number, rows) if not stop.is_set())
            extra = _extra_losses(name, config.distillation, taught, extra_loss)
            return before, _train(model, optimizer, counted, config, extra, advance)

        for names in _at_the_same_time(state):
            taught = _taught(state, names, _batches(state, number, rows))
            with one_thread_each(len(names)) as pool:
                try:
                    learning = {name: pool.submit(learn, name, taught) for name in names}
                    for name, future in learning.items():
                        before, losses[name] = future.result()
                        if before:
                            metrics[name] = before
                except BaseException:
                    stop.set()  # after an error or Ctrl-C, the other models end their step
                    raise
    features.observe(day)
    state.day = number
    return DayReport(number, len(rows), losses, metrics, time.perf_counter() - began)


def _batches(state: Pretraining, number: int, rows: Rows) -> Iterator[Batch]:
    rng = np.random.default_rng([state.config.seed, number])
    return training_batches(rows, state.features, state.config, rng)


def _train(
    model: nn.Module,
    optimizer: torch.optim.Adam,
    batches: Iterable[Batch],
    config: PretrainConfig,
    extra: Callable[[Batch, list[Tensor]], list[Tensor]],
    advance: Callable[[int], object],
) -> tuple[float, ...]:
    """Take a step per batch; return the mean loss of each task."""
    model.train()
    summed, steps = torch.zeros(len(TASKS)), 0
    for batch in batches:
        logits = model(batch)
        losses = torch.stack(task_losses(logits, batch, config))
        optimizer.zero_grad()
        sum(extra(batch, logits), losses.sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        summed += losses.detach()
        steps += 1
        advance(len(batch.samples))
    return tuple((summed / max(steps, 1)).tolist())


def _at_the_same_time(state: Pretraining) -> list[list[str]]:
    """Say which models train together, and what comes first."""
    names = list(state.optimizers)
    students = [name for name in names if name != "teacher"]
    if state.config.distillation and students and "teacher" in names:
        return [["teacher"], students]
    return [names]


def _taught(state: Pretraining, names: Sequence[str], batches: Iterable[Batch]) -> Taught:
    """Score a day's batches with the teacher, once for both students, if they learn from one."""
    if not state.config.distillation or "teacher" in names or "teacher" not in state.optimizers:
        return None
    teacher = state.models.teacher
    with torch.no_grad():
        return [teacher(batch) for batch in batches]


def _extra_losses(
    name: str, weight: float, taught: Taught, extra_loss: ExtraLoss | None
) -> Callable[[Batch, list[Tensor]], list[Tensor]]:
    """Collect what is added to a model's loss besides the tasks' own, batch after batch."""
    lessons = iter(taught or ())

    def extra(batch: Batch, logits: list[Tensor]) -> list[Tensor]:
        losses = []
        if taught is not None:
            losses.append(weight * distillation_loss(logits, next(lessons), batch))
        if extra_loss is not None:
            losses.append(extra_loss(name, batch, logits))
        return losses

    return extra
