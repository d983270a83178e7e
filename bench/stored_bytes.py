"""Bytes that Redis and files keep for each byte of knowledge.

    python -m bench.stored_bytes [--save]

Each generation is written by the exporter's own sink: into an idle Redis server of ours, whose
``used_memory`` is read before and after, and into an embedded store, whose files are added up.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import redis
import typer

from bench.generations import (
    Counts,
    blocks_of,
    items_spec,
    load_generation,
    payload_bytes,
    users_spec,
)
from bench.results import Figure, Section, tell
from bench.stage import Stage
from gkc.store import GenerationSpec, ItemBlock, UserBlock, parse_store_url
from gkc.store.backends.file import FileStorage
from gkc.store.backends.redis import RedisStorage

PAIRS: Final = 40
WIDTHS: Final = (64, 192)
LOG_NORMAL: Final = (3.4, 0.6, 300)
"""Mean and deviation of the logarithm, and the most pairs: a median of 30, a long tail."""
OF_USERS: Final = (1.15, 1.08)
OF_ITEMS: Final = (1.10, 1.05)


def main(
    *,
    users: Annotated[int, typer.Option(help="Of each generation of users.")] = 50_000,
    items: Annotated[int, typer.Option(help="Of each generation of items.")] = 500_000,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Write each kind of generation, and tell."""
    figures, of_files = [], []
    users_pairs = {
        f"users of {PAIRS} pairs": np.full(users, PAIRS),
        "users of log-normal pairs": log_normal_pairs(users),
    }
    for dim in WIDTHS:
        specs = {name: (users_spec(dim, pairs), pairs) for name, pairs in users_pairs.items()}
        for name, (spec, pairs) in {**specs, "items": (items_spec(dim, items), None)}.items():
            told, bounds = f"{name}, D = {dim}", OF_ITEMS if pairs is None else OF_USERS
            values = [in_redis(spec, blocks_of(spec, pairs))]
            figures.append(Figure(told, values, "bytes", *bounds, at_most=True, digits=3))
            values = [in_files(spec, blocks_of(spec, pairs))]
            of_files.append(Figure(f"{told}, in files", values, "bytes", digits=3))
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
        figures=[*figures, *of_files],
    )
    tell(section, save=save)


def log_normal_pairs(users: int) -> Counts:
    """Draw numbers of pairs, shape (users,), as users have them: most few, some many."""
    mean, deviation, most = LOG_NORMAL
    drawn = np.random.default_rng(1).lognormal(mean, deviation, users)
    return np.clip(np.rint(drawn), 1, most).astype(np.int64)


def in_redis(spec: GenerationSpec, blocks: Iterable[UserBlock | ItemBlock]) -> float:
    """Write a generation into a fresh server; return what Redis keeps for a byte of payload."""
    with Stage() as stage:
        _, url = stage.redis()
        with (
            redis.Redis.from_url(url) as client,
            closing(RedisStorage(parse_store_url(url), "bench")) as storage,
        ):
            before = used_memory(client)
            load_generation(storage, spec, blocks)
            return (used_memory(client) - before) / payload_bytes(spec)


def in_files(spec: GenerationSpec, blocks: Iterable[UserBlock | ItemBlock]) -> float:
    """Write a generation into an embedded store; return its files' bytes for one of payload."""
    with Stage() as stage:
        load_generation(FileStorage(stage.folder, "bench"), spec, blocks)
        return stored_bytes(stage.folder) / payload_bytes(spec)


def stored_bytes(folder: Path) -> int:
    """Add up the files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def used_memory(client: redis.Redis) -> int:
    """Ask a server how much memory it uses."""
    memory: dict[str, int] = client.info("memory")
    return memory["used_memory"]


if __name__ == "__main__":
    typer.run(main)
