"""From a log's raw ids to rows of embedding tables, batch by batch, without per-row Python.

A table's row 0 is padding, row 1 is the unknown id; every id seen so far has a row of its own.
The behaviours of a user are the clicks of *earlier* days only: a day is encoded before its
clicks are remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gkc.arrays import I32, I64, Bools
from keep.config import TASKS, PretrainConfig
from keep.log import Day

PADDING = 0
"""Row of a behaviour that is not there."""
UNKNOWN = 1
"""Row of an id that no training day has shown."""


class Vocabulary:
    """Raw ids of one kind, (n,) distinct ones, and the rows they have in the embedding tables.

    The id at position k has row k + 2.
    """

    def __init__(self, ids: I64 | None = None) -> None:
        self.ids: I64 = np.empty(0, dtype=np.int64) if ids is None else ids
        self._order = np.argsort(self.ids)

    def __len__(self) -> int:
        """Count the rows, padding and unknown included."""
        return len(self.ids) + 2

    def rows(self, ids: I64) -> I64:
        """Look up the rows of raw ids; an id never seen has the unknown row."""
        if len(self.ids) == 0:
            return np.full(len(ids), UNKNOWN, dtype=np.int64)
        spot = np.searchsorted(self.ids, ids, sorter=self._order)
        position = self._order[np.minimum(spot, len(self.ids) - 1)]
        return np.where(self.ids[position] == ids, position + 2, UNKNOWN)

    def grow(self, ids: I64) -> None:
        """Give every id that has none a row behind the present ones, in ascending order."""
        new = np.setdiff1d(ids, self.ids)
        self.ids = np.concatenate([self.ids, new])
        self._order = np.argsort(self.ids)


@dataclass(frozen=True)
class Rows:
    """Samples of one day as table rows and labels; every array has one entry per impression."""

    user: I64
    """(n,) rows of the user table."""
    item: I64
    """(n, 3) rows of the item, shop and category tables."""
    labels: Bools
    """(n, 3) click, conversion, cart: the order of ``TASKS``."""

    def __len__(self) -> int:
        """Count the impressions."""
        return len(self.user)


class Features:
    """What has been seen of a log so far: vocabularies, items' features, users' behaviours.

    Of each user the latest ``length`` behaviours are kept.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.users = Vocabulary()
        self.items = Vocabulary()
        self.shops = Vocabulary()
        self.categories = Vocabulary()
        self.item_shop: I64 = np.array([PADDING, UNKNOWN])
        """(items,) shop row last seen with each item row."""
        self.item_category: I64 = np.array([PADDING, UNKNOWN])
        """(items,) category row last seen with each item row."""
        self.history: I32 = np.zeros((2, length), dtype=np.int32)
        """(users, length) item rows of the latest clicks, oldest first, padded on the left."""
        self.shown: I64 = np.zeros(2, dtype=np.int64)
        """(categories,) impressions of each category row so far."""

    def grow(self, day: Day) -> None:
        """Give the next day's new ids rows and note its items' shops and categories.

        Its labels are not looked at.
        """
        self.users.grow(day.user)
        self.items.grow(day.item)
        self.shops.grow(day.shop)
        self.categories.grow(day.category)
        self.item_shop = _lengthened(self.item_shop, len(self.items), UNKNOWN)
        self.item_category = _lengthened(self.item_category, len(self.items), UNKNOWN)
        self.shown = _lengthened(self.shown, len(self.categories), 0)
        new_users = len(self.users) - len(self.history)
        self.history = np.pad(self.history, ((0, new_users), (0, 0)))
        items = self.items.rows(day.item)
        self.item_shop[items] = self.shops.rows(day.shop)
        self.item_category[items] = self.categories.rows(day.category)

    def encode(self, day: Day) -> Rows:
        """Turn a day's impressions into rows; ids without a row become the unknown row."""
        shop, category = self.shops.rows(day.shop), self.categories.rows(day.category)
        item = np.stack([self.items.rows(day.item), shop, category], axis=1)
        labels = np.stack([day.click, day.click & day.conversion, day.click & day.cart], axis=1)
        return Rows(self.users.rows(day.user), item, labels)

    def item_triples(self, items: I64) -> I64:
        """Put each item's shop and category row, as last seen, beside its own: (..., 3)."""
        return np.stack([items, self.item_shop[items], self.item_category[items]], axis=-1)

    def observe(self, day: Day) -> None:
        """Remember the day's clicks as the users' latest behaviours, and what was shown.

        Its ids have rows already (``grow``); equal times keep the log's order.
        """
        shown = self.categories.rows(day.category)
        self.shown += np.bincount(shown, minlength=len(self.shown))
        user, item = self.users.rows(day.user[day.click]), self.items.rows(day.item[day.click])
        order = np.lexsort((day.time[day.click], user))
        user, item = user[order], item[order]
        if len(user) == 0:
            return
        starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        counts = np.diff(np.r_[starts, len(user)])  # clicks of each active user today
        from_end = np.repeat(starts + counts, counts) - np.arange(len(user))  # 1 = newest
        kept = from_end <= self.length

        active = user[starts]  # (A,)
        old = self.history[active]  # (A, length)
        shifted = np.arange(self.length) + counts[:, None]  # where each old behaviour comes from
        source = np.minimum(shifted, self.length - 1)
        new = np.where(shifted < self.length, np.take_along_axis(old, source, axis=1), PADDING)
        line = np.repeat(np.arange(len(active)), counts)
        new[line[kept], self.length - from_end[kept]] = item[kept]
        self.history[active] = new


@dataclass(frozen=True)
class Batch:
    """Impressions of a training step, with partners of the opposite label for each task.

    Candidate 0 of a sample is its own item; candidate 1 + t is its partner for task t, another
    item of the same user and day, with the same behaviours.
    """

    user: Tensor
    """(B,) int64, rows of the user table."""
    behaviours: Tensor
    """(B, T) int64, item rows, 0 where there is none."""
    items: Tensor
    """(B, 4, 3) int64, each candidate's item, shop and category row."""
    scored: tuple[tuple[Tensor, Tensor], ...]
    """Per task the (R,) sample and (R,) candidate indices whose logits its loss needs: first the
    task's samples with candidate 0, then the partners in the order of ``paired``."""
    labels: tuple[Tensor, ...]
    """Per task (n,) float32, the labels of its samples."""
    paired: tuple[Tensor, ...]
    """Per task (m,) int64, which of its samples have a partner."""
    samples: I64
    """(B,) which impressions of the day these are."""


def draw_partners(rows: Rows, rng: np.random.Generator) -> I64:
    """Draw, per sample and task, an impression of the same user and day with the opposite label.

    Returns
    -------
    ndarray, shape (n, 3), int64
        Positions in ``rows``; -1 where there is none, or where the sample is not one of the task
        (conversion and cart are defined on clicks).

    References
    ----------
    KEEP (CIKM'22), section 4.2.2: the triplet (u, i, j).
    """
    partners = np.full(rows.labels.shape, -1, dtype=np.int64)
    for task in range(len(TASKS)):
        samples = np.flatnonzero(trained_by(rows, task))
        group = 2 * rows.user[samples] + rows.labels[samples, task]
        order = np.argsort(group, kind="stable")
        opposite = group ^ 1
        first = np.searchsorted(group[order], opposite, side="left")
        count = np.searchsorted(group[order], opposite, side="right") - first
        choice = first + (rng.random(len(samples)) * count).astype(np.int64)
        has = count > 0
        partners[samples[has], task] = samples[order[choice[has]]]
    return partners


def trained_by(rows: Rows, task: int) -> Bools:
    """Tell, (n,), which impressions a task learns from: click from all, the others from clicks."""
    return np.ones(len(rows), dtype=np.bool_) if task == 0 else rows.labels[:, 0]


def training_batches(
    rows: Rows, features: Features, config: PretrainConfig, rng: np.random.Generator
) -> Iterator[Batch]:
    """Shuffle a day, encoded after ``Features.grow``, and cut it into training steps.

    ``features`` is the state *before* the day's clicks are observed.
    """
    if config.pairs == "day" and config.pair_weight > 0:
        partners = draw_partners(rows, rng)
    else:
        partners = np.full(rows.labels.shape, -1, dtype=np.int64)
    order = rng.permutation(len(rows))
    for start in range(0, len(rows), config.batch_size):
        samples = order[start : start + config.batch_size]
        yield make_batch(rows, features, samples, partners[samples], config.unknown_rate, rng)


def make_batch(
    rows: Rows,
    features: Features,
    samples: I64,
    partners: I64,
    unknown_rate: float,
    rng: np.random.Generator,
) -> Batch:
    """Gather one training step.

    Parameters
    ----------
    features : Features
        Holds the behaviours before the rows' day.
    samples : ndarray, shape (B,), int64
        Positions in ``rows``.
    partners : ndarray, shape (B, 3), int64
        Positions of the partners, -1 for none.
    unknown_rate : float
        Share of ids replaced by the unknown row.
    """
    chosen = np.concatenate([samples[:, None], np.maximum(partners, 0)], axis=1)  # (B, 4)
    user = _with_unknown(rows.user[samples], unknown_rate, rng)
    items = _with_unknown(rows.item[chosen], unknown_rate, rng)
    behaviours = features.history[rows.user[samples]].astype(np.int64)
    behaviours = _with_unknown(behaviours, unknown_rate, rng)
    scored, labels, paired = [], [], []
    for task in range(len(TASKS)):
        of_task = np.flatnonzero(trained_by(rows, task)[samples])
        has = np.flatnonzero(partners[of_task, task] >= 0)
        line = np.concatenate([of_task, of_task[has]])
        candidate = np.repeat([0, 1 + task], [len(of_task), len(has)])
        scored.append((torch.from_numpy(line), torch.from_numpy(candidate)))
        task_labels = rows.labels[samples[of_task], task].astype(np.float32)
        labels.append(torch.from_numpy(task_labels))
        paired.append(torch.from_numpy(has))
    return Batch(
        user=torch.from_numpy(user),
        behaviours=torch.from_numpy(behaviours),
        items=torch.from_numpy(items),
        scored=tuple(scored),
        labels=tuple(labels),
        paired=tuple(paired),
        samples=samples,
    )


def click_batch(rows: Rows, features: Features, samples: I64) -> Batch:
    """Gather impressions, at (B,) positions, that are only to be scored for the click task.

    There is one candidate per sample; nothing is replaced by the unknown row.
    """
    line = torch.arange(len(samples))
    return Batch(
        user=torch.from_numpy(rows.user[samples]),
        behaviours=torch.from_numpy(features.history[rows.user[samples]].astype(np.int64)),
        items=torch.from_numpy(rows.item[samples, None]),
        scored=((line, torch.zeros_like(line)),),
        labels=(torch.from_numpy(rows.labels[samples, 0].astype(np.float32)),),
        paired=(torch.empty(0, dtype=torch.int64),),
        samples=samples,
    )


def _with_unknown(rows: I64, rate: float, rng: np.random.Generator) -> I64:
    """Replace a share of the rows by the unknown row; padding stays."""
    replaced = (rng.random(rows.shape, dtype=np.float32) < rate) & (rows != PADDING)
    return np.where(replaced, UNKNOWN, rows)


def _lengthened(column: I64, length: int, fill: int) -> I64:
    return np.concatenate([column, np.full(length - len(column), fill, dtype=np.int64)])
