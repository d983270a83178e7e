"""KEEP-C: extraction and plugging co-trained on the training days, without earlier ones.

K(u, i) of a step's sub-domain rows is read, without gradient, before the extraction module learns
from that step: else the knowledge that Base is trained with would hold its own label, which the
knowledge that it is tested with cannot. For the same reason a pair of impressions is learned with
the later one of both, when the knowledge of both has been read.

References
----------
KEEP (CIKM'22), section 6.2 (compared methods).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gkc.arrays import F32, I64
from keep.config import TASKS, PretrainConfig
from keep.data import Samples
from keep.din import Teacher
from keep.features import Batch, Features, Rows, make_batch, trained_by
from keep.losses import point_loss
from keep.models import Models, set_item_tables, task_losses
from keep.systems import base, plugged
from keep.systems.plugged import KeepRanker, plug_into
from keep.systems.system import Lesson, System, every, inputs, labels, seeded


@dataclass(frozen=True, kw_only=True)
class Options(plugged.Options):
    """How Base, its plug-in and the extraction module beside them are trained."""

    extraction_batch_size: int = 128
    """Impressions of all scenes in a step of the extraction module. Smaller than pretraining's,
    because it has the training days alone; as for the other systems that learn from all scenes."""
    extraction_learning_rate: float = 0.003
    """Its Adam's learning rate."""


class RunningMoments:
    """Mean and standard deviation of the columns, (width,) each, of all rows seen so far."""

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

    def __init__(self, lesson: Lesson[Options, PretrainConfig], width: int) -> None:
        self.options = lesson.options
        self.task = lesson.task
        self.model = base.make(lesson.data, lesson.options, lesson.seed)
        with seeded(lesson.seed):
            self.plug_in = plug_into(self.model, width, lesson.options)
        self.moments = RunningMoments(width)
        parameters = [*self.model.parameters(), *self.plug_in.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=self.options.learning_rate, fused=True)
        self._positions: list[I64] = []
        self._knowledge: list[Tensor] = []

    def feed(self, samples: Samples, positions: I64, knowledge: Tensor) -> None:
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


def co_train(lesson: Lesson[Options, PretrainConfig]) -> KeepRanker:
    """Train the extraction module on the super-domain and Base on the sub-domain, side by side.

    The ranker reads the extraction module as it is after the last day.
    """
    data = lesson.data
    config = replace(
        lesson.side_input,
        batch_size=lesson.options.extraction_batch_size,
        learning_rate=lesson.options.extraction_learning_rate,
    )
    teacher = Models(data.sizes, config, ("teacher",)).teacher
    set_item_tables(teacher.features, data.features)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=config.learning_rate, fused=True)
    width = config.user_dim + config.item_dim + 3 * config.mlp[-1]
    downstream = _Downstream(lesson, width)
    for samples in data.super_domains(lesson.days):
        features = copy.copy(data.features)
        features.history = samples.history
        rng = np.random.default_rng([lesson.seed, samples.number])
        of_task = samples.day.sub_domain & trained_by(samples.rows, lesson.task)
        for batch in batches(samples.rows, features, config, rng):
            positions = batch.samples[of_task[batch.samples]]
            if len(positions):
                downstream.feed(samples, positions, read(teacher, samples, positions))
            losses = task_losses(teacher(batch), batch, config)
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        downstream.step(samples, lesson.options.batch_size)

    def knowledge(samples: Samples) -> F32:
        parts = np.array_split(np.arange(len(samples)), max(1, len(samples) // 4096))
        return torch.cat([read(teacher, samples, part) for part in parts]).numpy()

    return KeepRanker(downstream.model, downstream.plug_in, knowledge)


def batches(
    rows: Rows, features: Features, config: PretrainConfig, rng: np.random.Generator
) -> Iterator[Batch]:
    """Shuffle a day and cut it into steps, none of which knows a later step's labels.

    How much of ``rng`` is used does not depend on labels. ``features`` holds the behaviours before
    that day.
    """
    order = rng.permutation(len(rows))
    partners = np.full(rows.labels.shape, -1, dtype=np.int64)
    if config.pairs == "day" and config.pair_weight > 0:
        partners[order] = draw_earlier_partners(rows, order, config.batch_size, rng)
    for start in range(0, len(rows), config.batch_size):
        chosen = order[start : start + config.batch_size]
        yield make_batch(rows, features, chosen, partners[chosen], config.unknown_rate, rng)


def draw_earlier_partners(rows: Rows, order: I64, batch_size: int, rng: np.random.Generator) -> I64:
    """Draw partners as ``keep.features.draw_partners`` does, from the steps up to a row's own.

    ``order`` (n,) holds positions in ``rows`` as they are learned, ``batch_size`` a step.

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


def read(teacher: Teacher, samples: Samples, positions: I64) -> Tensor:
    """Read K(u, i), (B, width), at (B,) positions, as the extraction module is now; no gradient.

    References
    ----------
    KEEP (CIKM'22), equation 4.
    """
    items, behaviours = inputs(samples, positions)
    with torch.no_grad():
        user = torch.from_numpy(samples.rows.user[positions])
        return teacher.knowledge(user, behaviours, items)


KEEP_C = System(
    options=Options,
    # What CoNet gets for its steps on all scenes, the extraction module gets for its own.
    tried=every(
        extraction_batch_size=(128, 512),
        extraction_learning_rate=(0.001, 0.003),
        plug_in_hidden=(16, 32, 128),
    ),
    learn=co_train,
    takes=PretrainConfig,
)
