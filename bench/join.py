"""Rate of ``gkc join`` beside PyArrow alone, its memory, and a service beside a join from Redis.

    python -m bench.join [--save]

A store in files, and a table of users and items drawn at random. In turns: ``gkc join`` from start
to end, and `bench.join_floor`, which reads the same table and writes random numbers. Then a service
is asked with nobody else at its Redis, and while a join reads from it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from bench.checkouts import HERE
from bench.load import Ask
from bench.processes import anonymous_mib
from bench.results import Figure, Section, tell
from bench.stage import Stage, ratios
from bench.world import VERSION, Shape, questions
from gkc.arrays import I64
from gkc.store import (
    GenerationSpec,
    ItemBlock,
    Retention,
    UserBlock,
    encode_vectors,
    hash_ids,
    open_publisher,
)

SHAPE: Final = Shape(users=1_000_000, items=100_000, pairs=10)
ON_REDIS: Final = Shape(users=200_000, items=20_000, pairs=10)
ROWS_ON_REDIS: Final = 2_000_000
CANDIDATES: Final = 50
CHUNK: Final = 10_000
GROUP_ROWS: Final = 1 << 17
TICK_SECONDS: Final = 0.02
SETTLE_SECONDS: Final = 3.0
"""Until a join that was started reads users."""
SECONDS: Final = 4
BODIES: Final = 1_000


def main(
    *,
    rows: Annotated[int, typer.Option(help="Of the table.")] = 10_000_000,
    rounds: Annotated[int, typer.Option(help="Repeats.")] = 3,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Join and write in turns, and tell."""
    seconds: dict[str, list[float]] = {"join": [], "floor": []}
    with Stage() as stage:
        folder = stage.folder
        store = f"file:{folder / 'store'}"
        write_store(store, SHAPE)
        large, small = (write_table(folder / f"in-{n}", n, SHAPE) for n in (rows, rows // 10))
        peaks = [join(store, small, folder / "small")[1]]
        for _ in range(rounds):
            taken, peak = join(store, large, folder / "large")
            seconds["join"].append(taken)
            peaks.append(peak)
            seconds["floor"].append(write_alone(large, folder / "large", folder / "floor"))
    tell(section(seconds, peaks, rows, beside_a_service(rounds)), save=save)


def beside_a_service(rounds: int) -> list[float]:
    """Return the p99 of a service while a join reads from its Redis, to that in quiet."""
    found = []
    with Stage() as stage:
        url = stage.redis().redis_url()
        write_store(url, ON_REDIS)
        source = write_table(stage.folder / "in", ROWS_ON_REDIS, ON_REDIS)
        bodies = [{**b, "dtype": "f16"} for b in questions(ON_REDIS, CANDIDATES, BODIES, seed=1)]
        ask = Ask(stage.serve(url), stage.write("bodies", bodies), concurrency=1)
        environment = os.environ | {"GKC_MIRROR_DIR": str(stage.folder / "mirrors")}
        for _ in range(rounds):
            quiet = stage.ask(ask, SECONDS)
            target = stage.folder / "out"
            target.unlink(missing_ok=True)
            command = join_command(url, source, target)
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
                time.sleep(SETTLE_SECONDS)
                found.append(stage.ask(ask, SECONDS).p99_ms / quiet.p99_ms)
                is_over = process.poll() is not None
            if is_over or process.returncode:
                raise SystemExit("the join ended before the service was asked: give it more rows")
    return found


def write_store(store: str, shape: Shape) -> None:
    """Publish a version of random vectors, users 0 to ``shape.users`` - 1 and items alike."""
    rng = np.random.default_rng(0)

    def vectors(count: int) -> Any:  # noqa: ANN401
        return encode_vectors(rng.standard_normal((count, shape.dim), dtype=np.float32), "f16")

    spec = GenerationSpec(
        version=VERSION,
        element_type="f16",
        dim=shape.dim,
        category_dim=shape.dim,
        users=shape.users,
        items=shape.items,
        user_categories=shape.users * shape.pairs,
        bundle="bench",
        fingerprint="bench.join",
    )
    publisher = open_publisher(store)
    with publisher.stage(spec, max_versions=5, resume=False) as staged:
        items = in_hash_order(shape.items)
        has_category = np.ones(len(items), dtype=np.bool_)
        categories = items % shape.categories
        staged.sink.write_items(ItemBlock(items, vectors(len(items)), categories, has_category))
        users, own = in_hash_order(shape.users), np.arange(shape.pairs, dtype=np.int64)
        for start in range(0, shape.users, CHUNK):
            some = users[start : start + CHUNK]
            staged.sink.write_users(
                UserBlock(
                    some,
                    vectors(len(some)),
                    np.arange(len(some) + 1, dtype=np.int64) * shape.pairs,
                    np.tile(own, len(some)),
                    vectors(len(some) * shape.pairs),
                )
            )
        publisher.publish(staged, staged.sink.seal(), Retention())
    publisher.close()


def in_hash_order(count: int) -> I64:
    """Return the ids 0 to ``count`` - 1 in the order in which a store takes them."""
    ids = np.arange(count, dtype=np.int64)
    return ids[hash_ids(ids).argsort()]


def write_table(path: Path, rows: int, shape: Shape) -> Path:
    """Write a table of random users and items, a label and a time."""
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "user_id": rng.integers(0, shape.users, rows),
            "item_id": rng.integers(0, shape.items, rows),
            "label": rng.integers(0, 2, rows).astype(np.int8),
            "time": np.arange(rows),
        }
    )
    pq.write_table(table, path, row_group_size=GROUP_ROWS)
    return path


def join(store: str, source: Path, target: Path) -> tuple[float, float]:
    """Join a table; return the seconds that it took, and the most memory of its own, MiB."""
    target.unlink(missing_ok=True)
    return run(join_command(store, source, target))


def join_command(store: str, source: Path, target: Path) -> list[str]:
    """Return the command that joins a table."""
    where = ("join", "--version", VERSION, "--store", store, "--dtype", "f16")
    return HERE.module("gkc", *where, str(source), str(target))


def write_alone(source: Path, like: Path, target: Path) -> float:
    """Return the seconds that reading and writing takes."""
    target.unlink(missing_ok=True)
    return run(HERE.module("bench.join_floor", str(source), str(like), str(target)))[0]


def run(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return the seconds that it took, and the most memory of its own, MiB."""
    began, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_mib(process.pid))
            time.sleep(TICK_SECONDS)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - began, peak


def section(
    seconds: dict[str, list[float]], peaks: Sequence[float], rows: int, beside: Sequence[float]
) -> Section:
    """Put the seconds of each round, the peaks and the latencies in the form that is told.

    Parameters
    ----------
    seconds : dict of str to list of float
        Of ``join`` and ``floor``.
    peaks : sequence of float
        Of a tenth of the rows, then of each round.
    rows : int
    beside : sequence of float
        Ratios of p99.
    """
    few, *many = peaks
    return Section(
        module="bench.join",
        title="Join",
        method=(
            f"{rows:,} pairs of {SHAPE.users:,} users and {SHAPE.items:,} items drawn at random, "
            f"one file; `file:`, D = {SHAPE.dim}, {SHAPE.pairs} pairs a user, f16, all parts. "
            "`gkc join` from start to end, until the file is on disk. In turns with PyArrow, which "
            "reads the same file and writes a table of the same schema, row groups and codecs, "
            "with random numbers drawn once. Memory: RssAnon, the largest of samples every "
            f"{TICK_SECONDS * 1000:.0f} ms. Beside a service: {ROWS_ON_REDIS:,} rows of "
            f"{ON_REDIS.users:,} users in Redis on the same machine, joined without a limit on "
            f"reads, while a worker on a core of its own is asked for {CANDIDATES} rows at a time."
        ),
        figures=[
            Figure(
                "rows/s of gkc join to PyArrow's reading and writing",
                ratios(seconds["floor"], seconds["join"]),
                target=0.5,
                stretch=0.7,
            ),
            Figure(
                f"memory of {rows:,} rows to {rows // 10:,}",
                [peak / few for peak in many],
                target=1.1,
                at_most=True,
            ),
            Figure(
                "p99 of a service while a join reads from its Redis, to quiet",
                beside,
                target=1.5,
                at_most=True,
            ),
            Figure("rows joined", [rows / taken for taken in seconds["join"]], "/s", digits=0),
        ],
        notes=[f"Memory: {few:.0f} MiB, and {', '.join(f'{peak:.0f}' for peak in many)} MiB."],
    )


if __name__ == "__main__":
    typer.run(main)
