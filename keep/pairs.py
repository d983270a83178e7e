"""Pairs of users and items that nobody was shown, drawn in blocks of users times items."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gkc.arrays import I64, Bools
from keep.features import PADDING, UNKNOWN, Features
from keep.log import Log

HELD_SHARE = 0.1
"""Share of users and of items that training never draws."""


@dataclass(frozen=True)
class Shown:
    """Whom a log showed what up to a day; what came of it is not looked at."""

    users: I64
    """(users,) impressions of each row of the user table."""
    items: I64
    """(items,) impressions of each row of the item table."""
    pairs: I64
    """(n,) distinct pairs that were shown, ascending: user row * items + item row."""


def shown_until(features: Features, log: Log, day: int) -> Shown:
    """Count a log's impressions up to a day, both ids of which have rows."""
    users, items = len(features.users), len(features.items)
    pairs: I64 = np.empty(0, dtype=np.int64)
    of_users, of_items = np.zeros(users, dtype=np.int64), np.zeros(items, dtype=np.int64)
    for shown in log.days(log.info.days[0], day):
        user, item = features.users.rows(shown.user), features.items.rows(shown.item)
        known = (user > UNKNOWN) & (item > UNKNOWN)
        of_users += np.bincount(user[known], minlength=users)
        of_items += np.bincount(item[known], minlength=items)
        pairs = np.union1d(pairs, user[known] * items + item[known])
    return Shown(of_users, of_items, pairs)


class Side:
    """Users, or items, to draw from: (n,) table rows, half by their impressions, half uniformly."""

    def __init__(self, rows: I64, impressions: I64) -> None:
        self.rows = rows
        by_exposure = impressions[rows] / max(int(impressions[rows].sum()), 1)
        self._until = np.cumsum(by_exposure + 1 / len(rows))

    def draw(self, count: int, rng: np.random.Generator) -> I64:
        """Draw so many rows, and return the distinct ones, ascending."""
        spots = np.searchsorted(self._until, rng.random(count) * self._until[-1], side="right")
        return np.unique(self.rows[spots])


@dataclass(frozen=True)
class Block:
    """Every pair of some users with some items."""

    users: I64
    """(B,) rows of the user table."""
    items: I64
    """(G, 3) rows of the item, shop and category tables."""
    free: Bools
    """(B, G) whether the pair was never shown: what a student learns from."""


class FreePairs:
    """Blocks of pairs that a log never showed; a share of users and items is kept from training."""

    def __init__(self, features: Features, shown: Shown, rng: np.random.Generator) -> None:
        self._features = features
        self._shown, self._impressions = shown.pairs, shown.items
        self.users, self.held_users = _split(len(features.users), shown.users, rng)
        self.items, self.held_items = _split(len(features.items), shown.items, rng)

    def training_block(self, users: int, items: int, rng: np.random.Generator) -> Block:
        """Draw users and items that are not held out."""
        return self._block(self.users.draw(users, rng), self.items.draw(items, rng))

    def test_block(self, users: int, items: int, rng: np.random.Generator) -> Block:
        """Draw so many users and items of those to train on, and as many that are held out."""
        return self._block(
            np.concatenate([self.users.draw(users, rng), self.held_users.draw(users, rng)]),
            np.concatenate([self.items.draw(items, rng), self.held_items.draw(items, rng)]),
        )

    def most_shown(self, count: int) -> I64:
        """List each category's most shown items that are not held out, (categories, count).

        Rows of the item table, padded behind.
        """
        features = self._features
        items = self.items.rows[np.argsort(-self._impressions[self.items.rows], kind="stable")]
        categories = features.item_category[items]
        order = np.argsort(categories, kind="stable")
        items, categories = items[order], categories[order]
        place = np.arange(len(items)) - np.searchsorted(categories, categories)
        chosen = np.full((len(features.categories), count), PADDING, dtype=np.int64)
        kept = place < count
        chosen[categories[kept], place[kept]] = items[kept]
        return chosen

    def _block(self, users: I64, items: I64) -> Block:
        features = self._features
        codes = users[:, None] * len(features.items) + items
        return Block(users, features.item_triples(items), ~np.isin(codes, self._shown))


def _split(rows: int, impressions: I64, rng: np.random.Generator) -> tuple[Side, Side]:
    """Choose which known rows are drawn in training, and which are held out."""
    order = rng.permutation(np.arange(UNKNOWN + 1, rows))
    held = math.ceil(HELD_SHARE * len(order))
    return Side(np.sort(order[held:]), impressions), Side(np.sort(order[:held]), impressions)
