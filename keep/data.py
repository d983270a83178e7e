"""A log as downstream models see it: a day's impressions, and the clicks known before that day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gkc.arrays import I32, I64, Bools
from keep.config import TASKS
from keep.features import Features, Rows, trained_by
from keep.layers import TableSizes
from keep.log import Day, Log
from keep.models import table_sizes


@dataclass(frozen=True)
class Samples:
    """Impressions of one day, ready for a downstream model."""

    number: int
    """Which day it is."""
    day: Day
    """(n,) columns with raw ids, as the log has them."""
    rows: Rows
    """(n,) the same impressions as rows of embedding tables, and their labels."""
    history: I32
    """(users, T) item rows of each user's latest clicks before the day, 0 where there is none."""

    def __len__(self) -> int:
        """Count the impressions."""
        return len(self.rows)

    def behaviours(self, positions: I64) -> I64:
        """Look up what users clicked on earlier days, at (B,) positions.

        These are (B, T) item rows, oldest first, 0 where there is none.
        """
        return self.history[self.rows.user[positions]].astype(np.int64)

    def where(self, chosen: Bools) -> Samples:
        """Keep some of the impressions: (n,) bool."""
        day = Day(**{name: column[chosen] for name, column in vars(self.day).items()})
        rows = Rows(self.rows.user[chosen], self.rows.item[chosen], self.rows.labels[chosen])
        return Samples(self.number, day, rows, self.history)

    def of_task(self, task: int) -> Samples:
        """Keep the impressions that a task is defined on: conversion and cart are, on clicks."""
        return self if task == TASKS.index("click") else self.where(trained_by(self.rows, task))


class Data:
    """All that a downstream model may see of a log when it is tested on one day.

    Vocabularies, the items' shops and categories, and behaviours come from the days before the test
    day. An id that only the test day has is the unknown one.

    Attributes
    ----------
    features : Features
        State after the last day before the test day.
    days : tuple of int
        The days before the test day, ascending.
    """

    def __init__(self, log: Log, test_day: int, behaviours: int = 50) -> None:
        self.log = log
        self.test_day = test_day
        self.days = tuple(day for day in log.info.days if day < test_day)
        self.features = Features(behaviours)
        self._history: dict[int, I32] = {}
        for number in self.days:
            day = log.day(number)
            self.features.grow(day)
            self._history[number] = self.features.history.copy()
            self.features.observe(day)
        self._history[test_day] = self.features.history
        self._sub_domain: dict[int, Samples] = {}

    @property
    def sizes(self) -> TableSizes:
        """Rows of each embedding table."""
        return table_sizes(self.features)

    def super_domain(self, number: int) -> Samples:
        """Read a day with the impressions of all scenes: one of ``days``, or the test day."""
        day = self.log.day(number)
        return Samples(number, day, self.features.encode(day), self._history[number])

    def sub_domain(self, number: int) -> Samples:
        """Read a day with the impressions of the sub-domain; it is kept in memory."""
        if number not in self._sub_domain:
            samples = self.super_domain(number)
            self._sub_domain[number] = samples.where(samples.day.sub_domain)
        return self._sub_domain[number]

    def super_domains(self, numbers: Sequence[int]) -> Iterator[Samples]:
        """Read several days of all scenes, one in memory at a time."""
        for number in numbers:
            yield self.super_domain(number)
