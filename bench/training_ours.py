"""Our side of ``bench.training``: keep's teacher with the click task alone."""

from __future__ import annotations

import pickle

import numpy as np
import torch
from numpy.typing import NDArray

from bench.training_task import Task, ours_file, run_side
from gkc import __version__
from keep.checkpoint import make_optimizers
from keep.config import PretrainConfig
from keep.features import Batch, Features, click_batch
from keep.log import Day
from keep.losses import point_loss
from keep.models import Models, score_clicks, set_item_tables, table_sizes


class Ours:
    """The teacher and its optimizer as ``keep pretrain`` makes them, one candidate a sample.

    Only the click task's loss is computed, so that only its MLP is computed and trained.
    """

    package = f"keep {__version__}"

    def __init__(self, task: Task) -> None:
        self.task = task
        state: tuple[Features, Day] = pickle.loads(ours_file(task).read_bytes())
        self.features, self.day = state
        config = PretrainConfig(
            seed=task.seed,
            user_dim=task.user_dim,
            feature_dim=task.feature_dim,
            embedding_std=task.embedding_std,
            behaviours=task.behaviours,
            attention_width=task.attention,
            mlp=task.mlp,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            pair_weight=0.0,
            unknown_rate=0.0,
        )
        torch.manual_seed(task.seed)
        models = Models(table_sizes(self.features), config)
        self.model = models.teacher
        set_item_tables(self.model.features, self.features)
        self.optimizer = make_optimizers(models, config)["teacher"]
        others = sum(
            weights.numel()
            for part in (self.model.tasks.hidden, self.model.tasks.logits)
            for other in part[1:]
            for weights in other.parameters()
        )
        self.parameters = sum(weights.numel() for weights in self.model.parameters()) - others

    def fit(self, samples: int) -> float:
        """Go from the day's raw columns to a trained model."""
        day = part_of(self.day, slice(samples))
        self.features.grow(day)
        rows = self.features.encode(day)
        order = np.random.default_rng(self.task.seed).permutation(len(rows))
        self.model.train()
        summed = torch.zeros(())
        for start in range(0, len(rows), self.task.batch_size):
            batch = click_batch(rows, self.features, order[start : start + self.task.batch_size])
            summed += self._step(batch) * len(batch.samples)
        return float(summed) / samples

    def held_out(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Score impressions that were not learned from."""
        rows = self.features.encode(part_of(self.day, slice(self.task.samples, None)))
        logits = score_clicks(self.model, rows, self.features).astype(np.float64)
        return rows.labels[:, 0].astype(np.float32), 1.0 / (1.0 + np.exp(-logits))

    def _step(self, batch: Batch) -> torch.Tensor:
        loss = point_loss(self.model(batch)[0], batch.labels[0])
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


def part_of(day: Day, rows: slice | NDArray[np.int64]) -> Day:
    """Return some impressions of a day."""
    return Day(**{name: column[rows] for name, column in vars(day).items()})


if __name__ == "__main__":
    run_side(Ours)
