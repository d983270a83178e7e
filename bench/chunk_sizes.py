"""How long a read of one user waits in Redis while a mirror loads, by the size of its chunks.

A loader in a process of its own reads chunk after chunk, some of them at once, as a mirror does;
beside it one user's record is read again and again. Sizes end just under a size class of the
server's memory. Quiet reads come before and after each load.

    python -m bench.chunk_sizes [--mib N] [--rounds N]
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import redis
import typer

from bench.processes import redis_serving, separate_cores

KIB: Final = (256, 320, 384, 448, 512)
AT_ONCE: Final = (1, 2, 4, 8)
HEAD_BYTES: Final = 64
"""What a chunk stays under its size class by, for the server's own header."""
RECORD: Final = 5_800
USERS: Final = 512
SPAN_SECONDS: Final = 1.0


def main(
    *,
    mib: Annotated[int, typer.Option(help="Bytes of the table of items.")] = 192,
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 3,
) -> None:
    """Load and read in turns, and print one table."""
    _, others = separate_cores()
    with (
        tempfile.TemporaryDirectory() as scratch,
        redis_serving(Path(scratch), others) as (_, url),
        redis.Redis.from_url(url) as client,
    ):
        record = np.random.default_rng(0).bytes(RECORD)
        client.hset("users", mapping={str(k): record for k in range(USERS)})
        print("KiB at once  a user's read in a load, us: p50 p99 max  quiet p50 p99   MB/s  memory")
        for kib in KIB:
            kept = _store(client, (kib << 10) - HEAD_BYTES, mib << 20)
            for at_once in AT_ONCE:
                _measure(url, client, kib, at_once, rounds, kept)


def _store(client: redis.Redis, size: int, total: int) -> float:
    """Store a table in chunks; return what the server takes for each byte of it."""
    for key in client.scan_iter("i:*"):
        client.unlink(key)
    time.sleep(0.5)
    before = _used(client)
    rng = np.random.default_rng(1)
    count = total // size
    for number in range(count):
        client.set(f"i:{number}", rng.bytes(size))
    client.set("count", count)
    return (_used(client) - before) / (count * size)


def _used(client: redis.Redis) -> int:
    memory: Any = client.info("memory")
    return int(memory["used_memory"])


def _measure(
    url: str, client: redis.Redis, kib: int, at_once: int, rounds: int, kept: float
) -> None:
    loading, quiet, rates = [], [], []
    for _ in range(rounds):
        quiet += _reads(client, SPAN_SECONDS / 2)
        go, stop = multiprocessing.Event(), multiprocessing.Event()
        results: Any = multiprocessing.Queue()
        loader = multiprocessing.Process(target=_load, args=(url, at_once, go, stop, results))
        loader.start()
        go.wait()
        loading += _reads(client, SPAN_SECONDS)
        stop.set()
        rates.append(results.get())
        loader.join()
    p50, p99, most = (np.quantile(loading, q) * 1e6 for q in (0.5, 0.99, 1.0))
    quiet50, quiet99 = (np.quantile(quiet, q) * 1e6 for q in (0.5, 0.99))
    print(
        f"{kib:>3} {at_once:>7}  {p50:>32.0f} {p99:>3.0f} {most:>4.0f} {quiet50:>10.0f} "
        f"{quiet99:>5.0f} {np.median(rates) / 1e6:>7.0f} {kept:>7.4f}"
    )


def _reads(client: redis.Redis, seconds: float) -> list[float]:
    """Read random users for so long; return the seconds that each read takes."""
    picks = np.random.default_rng(2).integers(0, USERS, 100_000).tolist()
    taken = []
    end = time.perf_counter() + seconds
    for pick in picks:
        began = time.perf_counter()
        if began > end:
            break
        client.hmget("users", ["", str(pick)])
        taken.append(time.perf_counter() - began)
    return taken


def _load(url: str, at_once: int, go: Event, stop: Event, results: Any) -> None:  # noqa: ANN401
    """Read chunk after chunk until told to stop; tell bytes a second."""
    with redis.Redis.from_url(url) as client:
        stored: Any = client.get("count")
        count, number, loaded = int(stored), 0, 0
        began = time.perf_counter()
        go.set()
        while not stop.is_set():
            pipeline = client.pipeline(transaction=False)
            for _ in range(at_once):
                pipeline.get(f"i:{number % count}")
                number += 1
            loaded += sum(map(len, pipeline.execute()))
        results.put(loaded / (time.perf_counter() - began))


if __name__ == "__main__":
    typer.run(main)
