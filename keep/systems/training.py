"""What all compared systems share: one pass in day order, scoring, and how chance is fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gkc.arrays import F32
from keep.data import Samples

Ints = NDArray[np.int64]
Step = Callable[[Samples, Ints], Tensor]
"""Samples of a day and (B,) positions in them to a tensor: a loss, or (B,) logits."""

_SEEDING = Lock()


class Ranker(Protocol):
    """A trained system."""

    def score(self, samples: Samples) -> F32:
        """Score impressions.

        Parameters
        ----------
        samples : Samples
            n impressions of a day.

        Returns
        -------
        ndarray, shape (n,), float32
            Logits; higher means more likely positive.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a downstream model is trained; each system's ``Options`` add their own settings."""

    batch_size: int = 64
    """Small, because two days of a sub-domain must still give hundreds of steps."""
    learning_rate: float = 0.001
    """Adam's learning rate."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from a seed and leave torch's own generator as it was.

    Parameters
    ----------
    seed : int
        The same seed gives the same weights; blocks of several threads follow one another.
    """
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fit(
    parameters: Iterable[nn.Parameter],
    days: Iterable[Samples],
    loss: Step,
    training: Training,
    seed: int,
) -> int:
    """Train in one pass, days in the order given, shuffled within a day.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        What is trained.
    days : iterable of Samples
        Training days, ascending.
    loss : callable
        The loss of some impressions of a day, shape ().
    training : Training
        Batch size and learning rate.
    seed : int
        Fixes the order within the days.

    Returns
    -------
    int
        Steps taken.

    References
    ----------
    KEEP (CIKM'22), section 6.1: one epoch, ascending by date, shuffled within each day.
    """
    optimizer = torch.optim.Adam(parameters, lr=training.learning_rate, fused=True)
    steps = 0
    for day in days:
        order = np.random.default_rng([seed, day.number]).permutation(len(day))
        for start in range(0, len(day), training.batch_size):
            value = loss(day, order[start : start + training.batch_size])
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
    return steps


def score(samples: Samples, logits: Step, batch_size: int = 4096) -> F32:
    """Score impressions in parts, without learning from them.

    Parameters
    ----------
    samples : Samples
        n impressions of a day.
    logits : callable
        The logits of some of them; its modules must be in evaluation mode.
    batch_size : int
        Impressions scored together.

    Returns
    -------
    ndarray, shape (n,), float32
        Logits.
    """
    scores = np.empty(len(samples), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            positions = np.arange(start, min(start + batch_size, len(samples)))
            scores[positions] = logits(samples, positions).numpy()
    return scores


def labels(samples: Samples, positions: Ints, task: int) -> Tensor:
    """Gather a task's labels.

    Parameters
    ----------
    samples : Samples
        Impressions that the task is defined on (``Samples.of_task``).
    positions : ndarray, shape (B,), int64
        Which of them.
    task : int
        Position in ``TASKS``.

    Returns
    -------
    Tensor, shape (B,), float32
        1 for positive, 0 for negative.
    """
    return torch.from_numpy(samples.rows.labels[positions, task].astype(np.float32))


def inputs(samples: Samples, positions: Ints) -> tuple[Tensor, Tensor]:
    """Gather what every downstream model takes.

    Parameters
    ----------
    samples : Samples
        Impressions of a day.
    positions : ndarray, shape (B,), int64
        Which of them.

    Returns
    -------
    items : Tensor, shape (B, 3), int64
        Item, shop and category rows.
    behaviours : Tensor, shape (B, T), int64
        Item rows of the user's earlier clicks, 0 where there is none.
    """
    items = torch.from_numpy(samples.rows.item[positions])
    return items, torch.from_numpy(samples.behaviours(positions))
