"""Progressive validation: what a model predicts of a day before it learns anything of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from gkc.arrays import F32
from keep.config import TASKS
from keep.features import Features, Rows, click_batch, trained_by
from keep.metrics import Metrics, metrics


def score_tasks(
    model: nn.Module, rows: Rows, features: Features, batch_size: int = 4096
) -> list[F32]:
    """Score each task's samples of a day in one pass, without learning from them.

    Per task there is s_ui in the order of ``rows``: click of all impressions, conversion and cart
    of the clicked ones (``trained_by``).
    """
    model.eval()
    parts: list[list[F32]] = [[] for _ in TASKS]
    sampled = [trained_by(rows, task) for task in range(len(TASKS))]
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            samples = np.arange(start, min(start + batch_size, len(rows)))
            lines = [torch.from_numpy(np.flatnonzero(chosen[samples])) for chosen in sampled]
            scored = tuple((line, torch.zeros_like(line)) for line in lines)
            logits = model(replace(click_batch(rows, features, samples), scored=scored))
            for part, task_logits in zip(parts, logits, strict=True):
                part.append(task_logits.numpy())
    return [np.concatenate(part) if part else np.empty(0, dtype=np.float32) for part in parts]


def validate(model: nn.Module, rows: Rows, features: Features) -> dict[str, Metrics]:
    """Judge a model's predictions of a day that was not learned or observed yet, task by task.

    A task whose samples are all of one class is left out.

    References
    ----------
    Blum, Kalai and Langford, "Beating the hold-out: bounds for k-fold and progressive
    cross-validation", COLT 1999.
    """
    by_task = {}
    for task, logits in enumerate(score_tasks(model, rows, features)):
        samples = trained_by(rows, task)
        labels = rows.labels[samples, task]
        if labels.any() and not labels.all():
            by_task[TASKS[task]] = metrics(rows.user[samples], labels, logits)
    return by_task
