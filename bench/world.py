"""What the benchmarks of the service ask for: a synthetic version in a Redis server of our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.bundles import USER_ID_STEP, write_bundle
from bench.checkouts import HERE, Checkout
from bench.processes import Server

VERSION = "20211220"
Body = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How much knowledge there is."""

    users: int = 100_000
    items: int = 1_000_000
    pairs: int = 40
    """Categories that each user is exported with."""
    categories: int = 50
    """Categories of the items: four of five rows find their pair."""
    dim: int = 64
    dtype: str = "f16"


@dataclass(frozen=True)
class World:
    """A Redis server that holds one version."""

    shape: Shape
    redis: Server
    folder: Path
    """Scratch."""

    @property
    def url(self) -> str:
        """Of the store."""
        return self.redis.redis_url()

    def questions(self, rows: int, count: int, seed: int, **more: str) -> list[Body]:
        """Draw requests for this knowledge, as `questions` does."""
        return questions(self.shape, rows, count, seed, **more)

    def category_of(self, item: int) -> int:
        """Return the category that an item was exported with."""
        return item % self.shape.categories


def questions(shape: Shape, rows: int, count: int, seed: int, **more: str) -> list[Body]:
    """Draw columnar bodies of ``POST /knowledge``, 1 user by so many rows, all of them evenly.

    ``more`` is what each says besides, ``dtype`` for one.
    """
    rng = np.random.default_rng([seed, rows])
    users = (rng.integers(0, shape.users, count) * USER_ID_STEP).tolist()
    items = rng.integers(0, shape.items, (count, rows)).tolist()
    return [
        {"u": user, "i": candidates, "v": VERSION, **more}
        for user, candidates in zip(users, items, strict=True)
    ]


def of_users(bodies: Sequence[Body], count: int) -> list[Body]:
    """Let the rows of each request name so many users in turn: its own, and those after it."""
    users = list(dict.fromkeys(body["u"] for body in bodies))
    several = []
    for number, body in enumerate(bodies):
        near = [users[(number + k) % len(users)] for k in range(count)]
        several.append({**body, "u": [near[row % count] for row in range(len(body["i"]))]})
    return several


def export_tables(store: str, folder: Path) -> Path:
    """Write the version as tables into a new folder, which is returned."""
    HERE.run(
        HERE.module("gkc", "export-table", "--version", VERSION, "--store", store, str(folder))
    )
    return folder


def export(
    bundle: Path,
    shape: Shape,
    store: str,
    version: str = VERSION,
    *,
    checkout: Checkout = HERE,
) -> None:
    """Write a bundle of this shape, unless it is there; export it by a checkout's exporter."""
    if not bundle.exists():
        write_bundle(
            bundle,
            np.full(shape.users, shape.pairs),
            shape.dim,
            items=shape.items,
            categories=shape.categories,
        )
    where = ["--version", version, "--bundle", str(bundle), "--store", store]
    how = ["--dtype", shape.dtype, "--grace-seconds", "0"]
    checkout.run(checkout.module("exporter", *where, *how))
