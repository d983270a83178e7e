"""What both sides of ``bench.training`` train, and how their training is timed.

Each side imports this in its own environment, so there is nothing here but NumPy and torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

WARM_UP_BATCHES = 4


@dataclass(frozen=True)
class Task:
    """Widths, sizes and conditions that are equal on both sides."""

    folder: str
    """Where the data lie: ``ours.pickle`` and ``peer.npz``."""
    seed: int = 1
    user_dim: int = 48
    """Width of a user id's embedding."""
    feature_dim: int = 16
    """Width of the embeddings of item, shop and category."""
    embedding_std: float = 0.05
    """Standard deviation of fresh embeddings."""
    behaviours: int = 50
    """Length of the behaviour sequence, padding included."""
    attention: int = 16
    """Hidden units of the activation unit."""
    mlp: tuple[int, ...] = (512, 256, 128, 64)
    batch_size: int = 512
    learning_rate: float = 0.001
    threads: int = 2
    """Threads of torch, and cores that the process may use."""
    samples: int = 40_960
    """Impressions trained on, once."""
    held_out: int = 16_384
    """Impressions after those, to compare what was learned."""


@dataclass(frozen=True)
class Result:
    """What one side measured in one process."""

    package: str
    """Name and version."""
    parameters: int
    """Weights that the click loss trains."""
    training_loss: float
    """Mean log loss of the samples during the pass."""
    held_out_loss: float
    """Mean log loss of the held-out impressions after it."""
    fit_rate: float
    """Samples per second of the pass, from columns in memory to a trained model."""


class Side(Protocol):
    """One implementation of the task, its weights fresh."""

    package: str
    parameters: int

    def fit(self, samples: int) -> float:
        """Train on the first samples in random order, as users of the package would.

        Returns their mean log loss during the pass.
        """

    def held_out(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return labels and predicted probabilities of the held-out impressions."""


def run_side(make: Callable[[Task], Side]) -> None:
    """Read the task from the command line, measure one side and print the result as JSON."""
    values = json.loads(sys.argv[1])
    task = Task(**{**values, "mlp": tuple(values["mlp"])})
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    torch.set_num_threads(task.threads)
    make(task).fit(WARM_UP_BATCHES * task.batch_size)  # what is only slow the first time

    side = make(task)
    began = time.perf_counter()
    training_loss = side.fit(task.samples)
    rate = task.samples / (time.perf_counter() - began)
    held_out_loss = log_loss(*side.held_out())
    result = Result(side.package, side.parameters, training_loss, held_out_loss, rate)
    print(json.dumps(dataclasses.asdict(result)), flush=True)


def log_loss(labels: NDArray[np.float32], probabilities: NDArray[np.float64]) -> float:
    """Average the cross-entropy, in nats, of (n,) labels 0 or 1 and probabilities of a 1."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels > 0, np.log(p), np.log1p(-p))))


def peer_file(task: Task) -> Path:
    """Name the file of the peer's columns."""
    return Path(task.folder) / "peer.npz"


def ours_file(task: Task) -> Path:
    """Name the file of our day and features."""
    return Path(task.folder) / "ours.pickle"
