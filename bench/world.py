"""What the benchmarks of the service ask for: a synthetic version in a Redis server of our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.bundles import USER_ID_STEP, write_bundle
from bench.checkouts import HERE, Checkout
from bench.processes import Server

VERSION = "20211220"


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
    url: str
    folder: Path
    """Scratch."""

    def questions(self, rows: int, count: int, seed: int) -> list[dict[str, Any]]:
        """Draw requests for this knowledge, as `questions` does."""
        return questions(self.shape, rows, count, seed)

    def category_of(self, item: int) -> int:
        """Return the category that an item was exported with."""
        return item % self.shape.categories


def questions(shape: Shape, rows: int, count: int, seed: int) -> list[dict[str, Any]]:
    """Draw columnar requests, 1 user by many items, all of them evenly.

    Parameters
    ----------
    shape : Shape
        What there is to ask for.
    rows : int
        Items of each.
    count : int
        How many requests.
    seed : int
        Of the draw.

    Returns
    -------
    list of dict
        Bodies of ``POST /knowledge``.
    """
    rng = np.random.default_rng([seed, rows])
    users = (rng.integers(0, shape.users, count) * USER_ID_STEP).tolist()
    items = rng.integers(0, shape.items, (count, rows)).tolist()
    return [
        {"u": user, "i": candidates, "v": VERSION}
        for user, candidates in zip(users, items, strict=True)
    ]


def export(
    bundle: Path,
    shape: Shape,
    store: str,
    version: str = VERSION,
    *,
    checkout: Checkout = HERE,
) -> None:
    """Write a bundle of this shape, unless it is there, and export it.

    Parameters
    ----------
    bundle : Path
        The bundle's folder.
    shape : Shape
        How much it holds.
    store : str
        URL.
    version : str
        Under which name.
    checkout : Checkout
        Whose exporter.
    """
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
