"""Reads of one user from Redis, the service's and redis.asyncio's of the same fields, in turns.

python -m bench.redis_reads [--save]
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import redis.asyncio
import typer
import uvloop

from bench.generations import load_generation, user_blocks, users_spec
from bench.processes import redis_serving, separate_cores
from bench.report import spread
from bench.results import Figure, Section, tell
from gkc.store import GenerationManifest, hash_ids, parse_store_url
from gkc.store.backends.redis import RedisReader, RedisStorage
from gkc.store.backends.redis.layout import MARKER_FIELD, GenerationKeys, bucket_numbers

NAMESPACE: Final = "bench"
DIM: Final = 64
PAIRS: Final = 40
AT_ONCE: Final = (1, 8, 64)
PROBES: Final = 2048
TIMEOUT_MS: Final = 10_000


def main(
    *,
    users: Annotated[int, typer.Option(help="Users of the generation.")] = 50_000,
    rounds: Annotated[int, typer.Option(help="Turns of each way of reading.")] = 9,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Load a generation, read in turns, and tell."""
    _, others = separate_cores()
    with (
        tempfile.TemporaryDirectory() as scratch,
        redis_serving(Path(scratch), others) as (_, url),
    ):
        with closing(RedisStorage(parse_store_url(url), NAMESPACE)) as storage:
            pairs = np.full(users, PAIRS)
            spec = users_spec(DIM, pairs)
            manifest = load_generation(storage, spec, user_blocks(spec, pairs))
        rates = uvloop.run(_rates(url, manifest, users, rounds, Path(scratch)))
    figures, notes = [], []
    for at_once, found in rates.items():
        ratio = [a / b for a, b in zip(found["ours"], found["redis.asyncio"], strict=True)]
        figures.append(Figure(f"reads/s of redis.asyncio's, {at_once} at once", ratio))
        told = ", ".join(f"{name} {spread(values, 0)}" for name, values in found.items())
        notes.append(f"{at_once} at once: {told} reads/s.")
    section = Section(
        module="bench.redis_reads",
        title="Reading users from Redis",
        method=(
            f"`fetch_users` of one user of {PAIRS} pairs, D = {DIM}, marker included, against "
            f"`HMGET` of the same two fields by redis.asyncio with its pool, both under uvloop. "
            f"{PROBES:,} reads of random users in each of {rounds} turns."
        ),
        figures=figures,
        notes=notes,
        packages=("hiredis", "uvloop"),
    )
    tell(section, save=save)


async def _rates(
    url: str, manifest: GenerationManifest, users: int, rounds: int, mirror_dir: Path
) -> dict[int, dict[str, list[float]]]:
    """Return reads per second by how many are under way, and by who reads."""
    rng = np.random.default_rng(0)
    keys = GenerationKeys(NAMESPACE, manifest.generation)
    buckets = manifest.layout.user_buckets
    reader = RedisReader(
        parse_store_url(url), NAMESPACE, mirror_dir=mirror_dir, timeout_ms=TIMEOUT_MS
    )
    found: dict[int, dict[str, list[float]]] = {}
    async with redis.asyncio.Redis.from_url(url) as peer:

        async def ours(ids: npt.NDArray[np.int64]) -> None:
            await reader.fetch_users(manifest, ids)

        async def plain(ids: npt.NDArray[np.int64]) -> None:
            (bucket,) = bucket_numbers(hash_ids(ids), buckets)
            await peer.hmget(keys.bucket(int(bucket)), [MARKER_FIELD, ids.tobytes()])

        for at_once in AT_ONCE:
            rates: dict[str, list[float]] = {"ours": [], "redis.asyncio": []}
            for _ in range(rounds):
                picks = rng.integers(0, users, (PROBES // at_once, at_once, 1))
                for name, ask in zip(rates, (ours, plain), strict=True):
                    started = time.perf_counter()
                    for row in picks:
                        await asyncio.gather(*map(ask, row))
                    rates[name].append(PROBES / (time.perf_counter() - started))
            found[at_once] = rates
    await reader.close()
    return found


if __name__ == "__main__":
    typer.run(main)
