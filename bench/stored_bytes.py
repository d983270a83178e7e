"""Bytes that Redis and files keep for each byte of knowledge.

    python -m bench.stored_bytes [--save]

Each generation is written by the exporter's own sink: into an idle Redis server of ours, whose
``used_memory`` is read before and after, and into an embedded store, whose files are added up.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import redis
import typer

from bench.generations import (
    Counts,
    item_blocks,
    items_spec,
    load_generation,
    payload_bytes,
    user_blocks,
    users_spec,
)
from bench.processes import redis_serving, separate_cores
from bench.results import Curve, Figure, Section, tell
from gkc.store import GenerationSpec, ItemBlock, UserBlock, parse_store_url
from gkc.store.backends.file import FileStorage
from gkc.store.backends.file.layout import GENERATIONS
from gkc.store.backends.redis import RedisStorage

Blocks = Callable[[], Iterable[UserBlock | ItemBlock]]
PAIRS: Final = 40
SWEEP: Final = range(5, 76, 5)
WIDTHS: Final = (64, 192)
LOG_NORMAL: Final = (3.4, 0.6, 300)
"""Mean and deviation of the logarithm, and the most pairs: a median of 30, a long tail."""


def main(
    *,
    users: Annotated[int, typer.Option(help="Of each generation of users.")] = 50_000,
    items: Annotated[int, typer.Option(help="Of each generation of items.")] = 500_000,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Write each kind of generation, and tell."""
    _, others = separate_cores()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        figures, of_files = [], []
        for dim in WIDTHS:
            for name, (spec, blocks), wanted in (
                (f"users of {PAIRS} pairs", _of_users(dim, np.full(users, PAIRS)), (1.15, 1.08)),
                (
                    "users of log-normal pairs",
                    _of_users(dim, log_normal_pairs(users)),
                    (1.15, 1.08),
                ),
                ("items", _of_items(dim, items), (1.10, 1.05)),
            ):
                told = f"{name}, D = {dim}"
                values = [in_redis(folder, spec, blocks(), others)]
                figures.append(Figure(told, values, "bytes", *wanted, at_most=True, digits=3))
                values = [in_files(folder / "store", spec, blocks())]
                of_files.append(Figure(f"{told}, in files", values, "bytes", digits=3))
        sweep = []
        for pairs in SWEEP:
            spec, blocks = _of_users(WIDTHS[0], np.full(users, pairs))
            sweep.append((pairs, [in_redis(folder, spec, blocks(), others)]))
    worst, (value,) = max(sweep, key=lambda point: point[1])
    name = f"users of {worst} pairs, the worst of {SWEEP.start} to {SWEEP[-1]}, D = {WIDTHS[0]}"
    figures += [Figure(name, [value], "bytes", digits=3), *of_files]
    section = Section(
        module="bench.stored_bytes",
        title="What Redis and files keep for a byte of knowledge",
        method=(
            f"`used_memory` of an idle Redis before and after a generation of {users:,} users or "
            f"{items:,} items, f16, over the bytes of the vectors, ids and categories themselves. "
            f"Keys, buckets' markers, the allocator's size classes and hash tables are the rest. "
            f"*In files* is the size of all files of the generation in an embedded store. "
            f"Log-normal: a median of 30 pairs, at most {LOG_NORMAL[2]}. One value each: memory "
            f"does not vary."
        ),
        figures=figures,
        curves=[
            Curve(
                "stored-bytes",
                f"Users' records in Redis, D = {WIDTHS[0]}",
                "pairs of each user",
                "bytes for a byte",
                {"users": sweep},
            )
        ],
    )
    tell(section, save=save)


def _of_users(dim: int, pairs: Counts) -> tuple[GenerationSpec, Blocks]:
    spec = users_spec(dim, pairs)
    return spec, partial(user_blocks, spec, pairs)


def _of_items(dim: int, items: int) -> tuple[GenerationSpec, Blocks]:
    spec = items_spec(dim, items)
    return spec, partial(item_blocks, spec)


def log_normal_pairs(users: int) -> Counts:
    """Draw numbers of pairs, shape (users,), as users have them: most few, some many."""
    mean, deviation, most = LOG_NORMAL
    drawn = np.random.default_rng(1).lognormal(mean, deviation, users)
    return np.clip(np.rint(drawn), 1, most).astype(np.int64)


def in_redis(
    folder: Path,
    spec: GenerationSpec,
    blocks: Iterable[UserBlock | ItemBlock],
    cores: Iterable[int],
) -> float:
    """Write a generation into a fresh server.

    Parameters
    ----------
    folder : Path
        For the server.
    spec : GenerationSpec
        What is written.
    blocks : iterable of UserBlock or ItemBlock
        All of it.
    cores : iterable of int
        Of the server.

    Returns
    -------
    float
        Bytes that Redis keeps for each byte of payload.
    """
    with (
        redis_serving(folder, list(cores)) as (_, url),
        redis.Redis.from_url(url) as client,
        closing(RedisStorage(parse_store_url(url), "bench")) as storage,
    ):
        before = _used(client)
        load_generation(storage, spec, blocks)
        used = _used(client) - before
    return used / payload_bytes(spec)


def in_files(folder: Path, spec: GenerationSpec, blocks: Iterable[UserBlock | ItemBlock]) -> float:
    """Write a generation into an embedded store, and delete it.

    Parameters
    ----------
    folder : Path
        Of the store; not there yet.
    spec : GenerationSpec
        What is written.
    blocks : iterable of UserBlock or ItemBlock
        All of it.

    Returns
    -------
    float
        Bytes of files for each byte of payload.
    """
    load_generation(FileStorage(folder, "bench"), spec, blocks)
    generations = folder / "bench" / GENERATIONS
    stored = sum(file.stat().st_size for file in generations.rglob("*") if file.is_file())
    shutil.rmtree(folder)
    return stored / payload_bytes(spec)


def _used(client: redis.Redis) -> int:
    memory: dict[str, int] = client.info("memory")
    return memory["used_memory"]


if __name__ == "__main__":
    typer.run(main)
