"""Bytes that Redis and files keep for each byte of knowledge.

    python -m bench.stored_bytes [--save]

Each generation is exported into an idle Redis server of ours, whose ``used_memory`` is read before
and after, and into an embedded store, whose files are added up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import redis
import typer

from bench.bundles import write_bundle
from bench.options import Save
from bench.results import Figure, Section, tell
from bench.stage import Stage
from bench.world import Shape, export
from gkc.arrays import I64

USERS: Final = 20_000
ITEMS: Final = 500_000
PAIRS: Final = 40
WIDTHS: Final = (64, 192)
LOG_NORMAL: Final = (3.4, 0.6, 300)
"""Mean and deviation of the logarithm, and the most pairs: a median of 30, a long tail."""
OF_USERS: Final = (1.15, 1.08)
OF_ITEMS: Final = (1.10, 1.05)
ID_BYTES: Final = 8
ITEM_BYTES: Final = 17
"""Of an item besides its vector: id, category, whether it has one."""


def main(*, save: Save = False) -> None:
    """Export each kind of generation, and tell."""
    figures, of_files = [], []
    kinds = {
        f"users of {PAIRS} pairs": (np.full(USERS, PAIRS), 1, OF_USERS),
        "users of log-normal pairs": (log_normal_pairs(USERS), 1, OF_USERS),
        "items": (np.ones(1, dtype=np.int64), ITEMS, OF_ITEMS),
    }
    for dim in WIDTHS:
        for name, (pairs, count, bounds) in kinds.items():
            told = f"{name}, D = {dim}"
            in_redis, in_files = kept_for_a_byte(dim, pairs, count)
            figures.append(Figure(told, [in_redis], "bytes", *bounds, at_most=True, digits=3))
            of_files.append(Figure(f"{told}, in files", [in_files], "bytes", digits=3))
    section = Section(
        module="bench.stored_bytes",
        title="What Redis and files keep for a byte of knowledge",
        method=(
            f"`used_memory` of an idle Redis before and after an export of {USERS:,} users (and "
            f"one item) or {ITEMS:,} items (and one user), f16, over the bytes of the vectors, ids "
            f"and categories themselves. Keys, buckets' markers, the allocator's size classes and "
            f"hash tables are the rest. *In files* is the size of all files of an embedded store. "
            f"Log-normal: a median of 30 pairs, at most {LOG_NORMAL[2]}. One value each: memory "
            f"does not vary."
        ),
        figures=[*figures, *of_files],
    )
    tell(section, save=save)


def log_normal_pairs(users: int) -> I64:
    """Draw numbers of pairs, shape (users,), as users have them: most few, some many."""
    mean, deviation, most = LOG_NORMAL
    drawn = np.random.default_rng(1).lognormal(mean, deviation, users)
    return np.clip(np.rint(drawn), 1, most).astype(np.int64)


def kept_for_a_byte(dim: int, pairs: I64, items: int) -> tuple[float, float]:
    """Export users with so many pairs, and items; return what Redis and files keep for a byte."""
    payload = payload_bytes(dim, pairs, items)
    with Stage() as stage:
        bundle, files = stage.folder / "bundle", stage.folder / "store"
        write_bundle(bundle, pairs, dim, items=items)
        url = stage.redis().redis_url()
        with redis.Redis.from_url(url) as client:
            in_redis = grown(lambda: used_memory(client), bundle, url)
        in_files = grown(lambda: stored_bytes(files), bundle, f"file:{files}")
    return in_redis / payload, in_files / payload


def grown(measure: Callable[[], int], bundle: Path, store: str) -> int:
    """Return by how much something grows with an export."""
    before = measure()
    export(bundle, Shape(), store)
    return measure() - before


def payload_bytes(dim: int, pairs: I64, items: int) -> int:
    """Return the bytes of the vectors, ids and categories themselves."""
    keyed = len(pairs) + int(pairs.sum())
    return keyed * (ID_BYTES + 2 * dim) + items * (ITEM_BYTES + 2 * dim)


def stored_bytes(folder: Path) -> int:
    """Add up the files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def used_memory(client: redis.Redis) -> int:
    """Ask a server how much memory it uses."""
    memory: dict[str, int] = client.info("memory")
    return memory["used_memory"]


if __name__ == "__main__":
    typer.run(main)
