"""KEEP-C: extraction and plugging co-trained on the training days, without earlier ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from gkc.arrays import F32
from keep.config import TASKS, PretrainConfig
from keep.data import Data, Samples
from keep.din import Teacher
from keep.features import Batch, Features, Rows, make_batch, trained_by
from keep.losses import point_loss
from keep.models import Models, set_item_tables, task_losses
from keep.systems import base, keep
from keep.systems.keep import KeepRanker, make_plug_in
from keep.systems.training import Ints, inputs, labels, seeded


@dataclass(frozen=True, kw_only=True)
class Options(keep.Options):
    """How Base and its plug-in are built and trained beside the extraction module."""


def grid(best: base.Options) -> tuple[Options, ...]:
    """List what is tried on the tuning day.

    Parameters
    ----------
    best : base.Options
        The options of Base that were found best.

    Returns
    -------
    tuple of Options
        Twelve.
    """
    return tuple(
        Options(
            **{**vars(best), "batch_size": batch_size, "learning_rate": rate},
            plug_in_hidden=hidden,
        )
        for batch_size, rate, hidden in product((64, 128), (0.001, 0.003), (16, 32, 128))
    )


class RunningMoments:
    """Mean and standard deviation of all rows seen so far.

    Parameters
    ----------
    width : int
        Columns of the rows.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width)
        self._squares = torch.zeros(width)  # summed squared distances from the mean

    def add(self, rows: Tensor) -> None:
        """Count further rows, shape (n, width), float32, by the parallel form of Welford's rule."""
        count = self.count + len(rows)
        mean = rows.mean(dim=0)
        step = mean - self.mean
        between = step**2 * (self.count * len(rows) / count)
        self._squares += ((rows - mean) ** 2).sum(dim=0) + between
        self.mean += step * (len(rows) / count)
        self.count = count

    @property
    def std(self) -> Tensor:
        """Standard deviation of each column, shape (width,)."""
        return (self._squares / max(self.count, 1)).sqrt()


class _Downstream:
    """Base and its plug-in, fed row by row with the knowledge that was read for each row.

    Steps have as many rows as Base's own; rows wait until there are enough.
    """

    def __init__(self, data: Data, options: Options, seed: int, width: int, task: int) -> None:
        self.options = options
        self.task = task
        self.model = base.make(data, options, seed)
        with seeded(seed):
            self.plug_in = make_plug_in(width, self.model, options)
        self.plug_in.attach(self.model.first_layer)
        self.moments = RunningMoments(width)
        parameters = [*self.model.parameters(), *self.plug_in.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=options.learning_rate, fused=True)
        self._positions: list[Ints] = []
        self._knowledge: list[Tensor] = []

    def feed(self, samples: Samples, positions: Ints, knowledge: Tensor) -> None:
        """Take further rows of a day, and the steps that there are enough rows for."""
        self.moments.add(knowledge)
        self.plug_in.set_statistics(self.moments.mean, self.moments.std)
        self._positions.append(positions)
        self._knowledge.append(knowledge)
        while sum(map(len, self._positions)) >= self.options.batch_size:
            self.step(samples, self.options.batch_size)

    def step(self, samples: Samples, rows: int) -> None:
        """Learn from the longest waiting rows, at most so many; nothing if none waits."""
        waiting = np.concatenate([np.empty(0, dtype=np.int64), *self._positions])
        if len(waiting) == 0:
            return
        knowledge = torch.cat(self._knowledge)
        positions, fed = waiting[:rows], knowledge[:rows]
        self._positions, self._knowledge = [waiting[rows:]], [knowledge[rows:]]
        self.plug_in.feed(fed)
        logits = self.model(*inputs(samples, positions))
        loss = point_loss(logits, labels(samples, positions, self.task))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def train(
    data: Data,
    days: Sequence[int],
    options: Options,
    seed: int,
    task: int = 0,
    *,
    pretraining: PretrainConfig,
) -> KeepRanker:
    """Train the extraction module on the super-domain and Base on the sub-domain, side by side.

    K(u, i) of a step's sub-domain rows is read, without gradient, before the extraction module
    learns from that step: else the knowledge that Base is trained with would hold its own label,
    which the knowledge that it is tested with cannot. For the same reason a pair of impressions is
    learned with the later one of both, when the knowledge of both has been read.

    Parameters
    ----------
    data : Data
        The log.
    days : sequence of int
        Training days, ascending.
    options : Options
        Settings of Base and plug-in.
    seed : int
        Of initial weights and order.
    task : int
        Position in ``TASKS``: what is predicted downstream.
    pretraining : PretrainConfig
        Settings of the extraction module.

    Returns
    -------
    KeepRanker
        Base with its plug-in; it reads the extraction module as it is after the last day.

    References
    ----------
    KEEP (CIKM'22), section 6.2 (compared methods).
    """
    teacher = Models(data.sizes, pretraining, ("teacher",)).teacher
    set_item_tables(teacher.features, data.features)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=pretraining.learning_rate, fused=True)
    width = pretraining.user_dim + pretraining.item_dim + 3 * pretraining.mlp[-1]
    downstream = _Downstream(data, options, seed, width, task)
    for samples in data.super_domains(days):
        features = copy.copy(data.features)
        features.history = samples.history
        rng = np.random.default_rng([seed, samples.number])
        wanted = samples.day.sub_domain & trained_by(samples.rows, task)
        for batch in batches(samples.rows, features, pretraining, rng):
            positions = batch.samples[wanted[batch.samples]]
            if len(positions):
                downstream.feed(samples, positions, read(teacher, samples, positions))
            losses = task_losses(teacher(batch), batch, pretraining)
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        downstream.step(samples, options.batch_size)

    def knowledge(samples: Samples) -> F32:
        parts = np.array_split(np.arange(len(samples)), max(1, len(samples) // 4096))
        return torch.cat([read(teacher, samples, part) for part in parts]).numpy()

    return KeepRanker(downstream.model, downstream.plug_in, knowledge)


def batches(
    rows: Rows, features: Features, config: PretrainConfig, rng: np.random.Generator
) -> Iterator[Batch]:
    """Shuffle a day and cut it into steps, none of which knows a later step's labels.

    Parameters
    ----------
    rows : Rows
        The day's impressions.
    features : Features
        Holds the behaviours before that day.
    config : PretrainConfig
        Batch size, pairs and the rate of ids replaced by the unknown row.
    rng : numpy.random.Generator
        Source of all chance; how much of it is used does not depend on labels.

    Yields
    ------
    Batch
        Every impression once.
    """
    order = rng.permutation(len(rows))
    partners = np.full(rows.labels.shape, -1, dtype=np.int64)
    if config.pairs == "day" and config.pair_weight > 0:
        partners[order] = draw_earlier_partners(rows, order, config.batch_size, rng)
    for start in range(0, len(rows), config.batch_size):
        chosen = order[start : start + config.batch_size]
        yield make_batch(rows, features, chosen, partners[chosen], config.unknown_rate, rng)


def draw_earlier_partners(
    rows: Rows, order: Ints, batch_size: int, rng: np.random.Generator
) -> Ints:
    """Draw partners as ``keep.features.draw_partners`` does, from the steps up to a row's own.

    Parameters
    ----------
    rows : Rows
        A day's impressions.
    order : ndarray, shape (n,), int64
        Positions in ``rows`` as they are learned.
    batch_size : int
        Rows of a step.
    rng : numpy.random.Generator
        Where the choice among several comes from.

    Returns
    -------
    ndarray, shape (n, 3), int64
        For each entry of ``order`` and each task, positions in ``rows``; -1 where there is none.

    References
    ----------
    KEEP (CIKM'22), section 4.2.2: the triplet (u, i, j).
    """
    n = len(order)
    partners = np.full((n, len(TASKS)), -1, dtype=np.int64)
    turn = np.arange(n, dtype=np.int64)
    known = np.minimum((turn // batch_size + 1) * batch_size, n)  # turns up to the step's end
    for task in range(len(TASKS)):
        chance = rng.random(n)
        sample = turn[trained_by(rows, task)[order]]
        group = 2 * rows.user[order[sample]] + rows.labels[order[sample], task]
        key = group * n + sample  # by group, then by turn
        ranked = np.argsort(key)
        opposite = (group ^ 1) * n
        first = np.searchsorted(key[ranked], opposite)
        count = np.searchsorted(key[ranked], opposite + known[sample]) - first
        has = count > 0
        choice = first[has] + (chance[sample[has]] * count[has]).astype(np.int64)
        partners[sample[has], task] = order[sample[ranked[choice]]]
    return partners


def read(teacher: Teacher, samples: Samples, positions: Ints) -> Tensor:
    """Read K(u, i) of some impressions as the extraction module is now, without gradient.

    Parameters
    ----------
    teacher : Teacher
        The extraction module.
    samples : Samples
        Impressions of a day.
    positions : ndarray, shape (B,), int64
        Which of them.

    Returns
    -------
    Tensor, shape (B, width), float32
        Equation 4.
    """
    items, behaviours = inputs(samples, positions)
    with torch.no_grad():
        user = torch.from_numpy(samples.rows.user[positions])
        return teacher.knowledge(user, behaviours, items)
