"""What a compared system declares, and the one training that all but KEEP-C go through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from threading import RLock
from types import NoneType
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from gkc.arrays import F32, I64
from keep.data import Data, Samples
from keep.losses import point_loss

Step = Callable[[Samples, I64], Tensor]
"""Samples of a day and (B,) positions in them to a tensor: a loss, or (B,) logits."""

SPARE_RATE = 0.002
"""Adam's learning rate of options that are tried where others collapsed."""

_SEEDING = RLock()


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a downstream model is trained; each system's ``Options`` add their own settings."""

    batch_size: int = 64
    """Small, because two days of a sub-domain must still give hundreds of steps."""
    learning_rate: float = 0.001
    """Adam's learning rate."""


class Ranker(Protocol):
    """A compared system, fresh or trained."""

    @property
    def model(self) -> nn.Module:
        """What is put into training mode."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """List what is trained."""
        ...

    def score(self, samples: Samples) -> F32:
        """Score n impressions of a day: (n,) logits; higher means more likely positive."""
        ...


S = TypeVar("S", bound=Training)
"""A system's options, its settings."""
G = TypeVar("G")
"""What it learns from beside the log."""
R = TypeVar("R", bound=Ranker)
S_co = TypeVar("S_co", bound=Training, covariant=True)
G_co = TypeVar("G_co", covariant=True)


@dataclass(frozen=True)
class Lesson(Generic[S_co, G_co]):
    """What a system is trained on, how, and with what."""

    data: Data
    days: tuple[int, ...]
    """Training days, ascending."""
    options: S_co
    seed: int
    """Of initial weights, order and all other chance."""
    task: int
    """Position in ``TASKS``: what is predicted."""
    side_input: G_co
    """What the system ``takes``."""

    def sub_domain(self) -> Iterator[Samples]:
        """Read the days' impressions of the sub-domain that the task is defined on."""
        return (self.data.sub_domain(day).of_task(self.task) for day in self.days)

    def super_domain(self) -> Iterator[Samples]:
        """Read those of all scenes; the sub-domain's are among them."""
        return (samples.of_task(self.task) for samples in self.data.super_domains(self.days))


@dataclass(frozen=True, kw_only=True)
class System(Generic[S, G, R]):
    """A compared system."""

    options: type[S]
    """``base.Options`` or a subclass: what is tried starts from all of Base's best options."""
    tried: tuple[Mapping[str, Any], ...]
    """What is tried on the tuning day: changes to Base's best options. Twelve, as for each of the
    others; six for one that takes ``Plugged``, whose other trials are pretraining and students.
    ``spares`` take the place of those that collapse."""
    learn: Callable[[Lesson[S, G]], R]
    """Builds and trains it: ``one_pass``, but for KEEP-C."""
    takes: type = NoneType
    """What its ``side_input`` is: what it learns from beside the log."""
    pretrain: Callable[[Data, Sequence[int], S, int], nn.Module] | None = None
    """Of a self-supervised system: data, days, options and seed to the encoder that it takes."""

    def grid(self, best: Training) -> tuple[S, ...]:
        """List the options to try, given those of Base that were found best."""
        return tuple(self.options(**{**vars(best), **changes}) for changes in self.tried)

    def spares(self, best: Training) -> tuple[S, ...]:
        """List what else can be tried: the grid at a learning rate between those that it has."""
        grid = (replace(options, learning_rate=SPARE_RATE) for options in self.grid(best))
        return tuple(dict.fromkeys(grid))

    def train(
        self,
        data: Data,
        days: Sequence[int],
        options: S,
        seed: int,
        task: int = 0,
        side_input: G | None = None,
    ) -> R:
        """Train it on days of the log, ascending, for a task (position in ``TASKS``)."""
        assert isinstance(side_input, self.takes)
        return self.learn(Lesson(data, tuple(days), options, seed, task, cast("G", side_input)))


def every(**choices: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Combine each choice of every setting with each of the others."""
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


def one_pass(
    build: Callable[[Lesson[S, G]], tuple[R, Step]],
    days: Callable[[Lesson[S, G]], Iterable[Samples]],
    draws: bool = False,
) -> Callable[[Lesson[S, G]], R]:
    """Train by Adam, one pass over the days.

    Parameters
    ----------
    build : callable
        Makes the fresh system, and the loss of a step; torch's generator has the lesson's seed.
    days : callable
        ``Lesson.sub_domain`` or ``Lesson.super_domain``.
    draws : bool
        Whether training itself draws from torch's generator, as dropout does.
    """

    def learn(lesson: Lesson[S, G]) -> R:
        with seeded(lesson.seed):
            ranker, loss = build(lesson)
            if draws:
                run(ranker, loss, lesson)
        if not draws:
            run(ranker, loss, lesson)
        return ranker

    def run(ranker: R, loss: Step, lesson: Lesson[S, G]) -> None:
        ranker.model.train()
        fit(ranker.parameters(), days(lesson), loss, lesson.options, lesson.seed)

    return learn


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed and leave torch's own generator as it was; other threads wait."""
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
    """Train in one pass, days in the order given, shuffled within a day; return the steps taken.

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


def fit_progressively(
    parameters: Iterable[nn.Parameter],
    samples: Samples,
    logits: Step,
    training: Training,
    seed: int,
) -> F32:
    """Train on clicks in one pass over a day's n impressions, each scored before it is learned.

    Returns
    -------
    ndarray, shape (n,), float32
        Logits.

    References
    ----------
    Blum, Kalai and Langford, "Beating the hold-out: bounds for k-fold and progressive
    cross-validation", COLT 1999.
    """
    scores = np.empty(len(samples), dtype=np.float32)

    def loss(day: Samples, positions: I64) -> Tensor:
        found = logits(day, positions)
        scores[positions] = found.detach().numpy()
        return point_loss(found, labels(day, positions, task=0))

    fit(parameters, [samples], loss, training, seed)
    return scores


def score(samples: Samples, logits: Step, batch_size: int = 4096) -> F32:
    """Score n impressions in parts, without learning from them: (n,) logits.

    The modules behind ``logits`` must be in evaluation mode.
    """
    scores = np.empty(len(samples), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            positions = np.arange(start, min(start + batch_size, len(samples)))
            scores[positions] = logits(samples, positions).numpy()
    return scores


def labels(samples: Samples, positions: I64, task: int) -> Tensor:
    """Gather a task's labels at (B,) positions of its own samples: (B,) float32, 1 or 0."""
    return torch.from_numpy(samples.rows.labels[positions, task].astype(np.float32))


def inputs(samples: Samples, positions: I64) -> tuple[Tensor, Tensor]:
    """Gather what every downstream model takes, at (B,) positions of a day.

    Returns
    -------
    items : Tensor, shape (B, 3), int64
        Item, shop and category rows.
    behaviours : Tensor, shape (B, T), int64
        Item rows of the user's earlier clicks, 0 where there is none.
    """
    items = torch.from_numpy(samples.rows.item[positions])
    return items, torch.from_numpy(samples.behaviours(positions))
