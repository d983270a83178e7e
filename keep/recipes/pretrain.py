"""Pretrain the teacher and its two students, one pass over the super-domain in day order."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from keep.checkpoint import (
    CheckpointError,
    Pretraining,
    holds_checkpoint,
    load_checkpoint,
    make_optimizer,
    save_checkpoint,
)
from keep.config import TASKS, PretrainConfig
from keep.features import Features, training_batches
from keep.gauc import Gauc, gauc
from keep.log import Day, Log
from keep.models import Models, grow_tables, score_clicks, set_item_tables, table_sizes, task_losses

BEFORE_ANY_DAY = -1
"""Days of a log are at least 0."""


@dataclass(frozen=True)
class DayReport:
    """What one day of training did."""

    day: int
    impressions: int
    losses: dict[str, tuple[float, ...]]
    """Model name to its mean loss per task, in the order of ``TASKS``."""
    gauc: dict[str, Gauc]
    """Model name to its click GAUC of the day, scored before anything of the day was learned;
    empty on the first day."""
    seconds: float

    def lines(self) -> list[str]:
        """Put the report in words, one line per model."""
        head = f"day {self.day}: {self.impressions:,} impressions in {self.seconds:.1f} s"
        rows = []
        for name, losses in self.losses.items():
            per_task = " ".join(
                f"{task} {loss:.4f}" for task, loss in zip(TASKS, losses, strict=True)
            )
            known = f"   click GAUC before {self.gauc[name].value:.4f}" if name in self.gauc else ""
            rows.append(f"  {name:<9} loss {per_task}{known}")
        return [head, *rows]


def pretrain(
    log: Log,
    out: Path,
    from_checkpoint: Path | None = None,
    until: int | None = None,
    config: PretrainConfig | None = None,
) -> Pretraining:
    """Train day by day, print a report of each and leave a checkpoint after each.

    Parameters
    ----------
    log : Log
        The super-domain: all impressions of each day.
    out : Path
        Checkpoint to write. It may be ``from_checkpoint`` itself.
    from_checkpoint : Path, optional
        Go on with the day after this one; its configuration is kept.
    until : int, optional
        Last day to learn from; the log's own ``pretrain_until`` if left out.
    config : PretrainConfig, optional
        For a training from scratch; defaults if left out.

    Returns
    -------
    Pretraining
        State after the last day.

    Raises
    ------
    CheckpointError
        If ``out`` holds another checkpoint, ``from_checkpoint`` cannot be read, or there is no
        day to learn from.
    """
    if holds_checkpoint(out) and (from_checkpoint is None or not _same(out, from_checkpoint)):
        raise CheckpointError(
            out, "is there already; go on with it (--from-checkpoint) or name another --out"
        )
    last = log.info.pretrain_until if until is None else until
    state = None if from_checkpoint is None else load_checkpoint(from_checkpoint)
    done = BEFORE_ANY_DAY if state is None else state.day
    days = [day for day in log.info.days if done < day <= last]
    if not days:
        after = "" if state is None else f" after day {state.day}"
        raise CheckpointError(
            out, f"the log has no day up to {last}{after}; its days are {list(log.info.days)}"
        )
    for number in days:
        day = log.day(number)
        state = start(day, config or PretrainConfig()) if state is None else state
        for line in train_day(state, number, day).lines():
            print(line, flush=True)
        save_checkpoint(state, out)
    assert state is not None
    print(f"checkpoint of day {state.day}: {out}")
    return state


def start(day: Day, config: PretrainConfig) -> Pretraining:
    """Make fresh models whose tables fit the first day.

    Parameters
    ----------
    day : Day
        The first day; only its ids are used.
    config : PretrainConfig
        Widths and seed.

    Returns
    -------
    Pretraining
        State before any day.
    """
    features = Features(config.behaviours)
    features.grow(day)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        models = Models(table_sizes(features), config)
    for model in (models.teacher, models.two_tower, models.category):
        set_item_tables(model.features, features)
    return Pretraining(config, BEFORE_ANY_DAY, features, models, make_optimizer(models, config))


def train_day(state: Pretraining, number: int, day: Day) -> DayReport:
    """Learn from one day: grow the tables, take its steps, then remember its clicks.

    Parameters
    ----------
    state : Pretraining
        Changed in place.
    number : int
        The day's number; together with the seed it fixes all chance of the day.
    day : Day
        Its impressions.

    Returns
    -------
    DayReport
        Losses, and the GAUC of predictions made before the day was learned from.
    """
    began = time.perf_counter()
    config, features, models = state.config, state.features, state.models
    features.grow(day)
    grow_tables(models, state.optimizer, features)
    rows = features.encode(day)
    rng = np.random.default_rng([config.seed, number])
    scores = {
        name: gauc(day.user, day.click, score_clicks(model, rows, features))
        for name, model in models.named_children()
        if state.optimizer.state  # something was learned before
    }
    losses = {name: np.zeros(len(TASKS), dtype=np.float64) for name, _ in models.named_children()}
    steps = 0
    models.train()
    with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task(f"day {number}", total=len(rows))
        for batch in training_batches(rows, features, config, rng):
            logits = models(batch)
            per_task = {
                name: torch.stack(task_losses(logits[name], batch, config.pair_weight))
                for name in losses
            }
            state.optimizer.zero_grad()
            total = torch.stack([loss.sum() for loss in per_task.values()]).sum()
            total.backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            for name, loss in per_task.items():
                losses[name] += loss.detach().numpy()
            steps += 1
            progress.advance(bar, len(batch.samples))
    features.observe(day)
    state.day = number
    means = {name: tuple((summed / steps).tolist()) for name, summed in losses.items()}
    return DayReport(number, len(rows), means, scores, time.perf_counter() - began)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
