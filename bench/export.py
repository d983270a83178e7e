"""A whole export against its floors: the models alone, and Redis loading the same bytes.

    python -m bench.export [--save]

The models alone are onnxruntime on the exporter's own batches, held in memory, by the exporter's
own batch size and threads. Redis alone is ``redis-cli --pipe`` of the commands that rebuild what
the export left. Both in turns with ``gkc-export`` from start to end, publication included.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import redis
import typer

from bench.bundles import write_bundle
from bench.child import Cost, run_child
from bench.processes import redis_serving, separate_cores
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.student_bundle import write_student_bundle
from exporter.bundle import load_bundle
from exporter.inputs import item_batches, prepare, user_batches
from exporter.manifest import ModelKind
from exporter.tables import Values

VERSION: Final = "bench"
PAIRS: Final = 40
MOST_PAIRS: Final = 1000
Inputs = list[tuple[ModelKind, dict[str, Values]]]


def main(
    *,
    users: Annotated[int, typer.Option(help="Users of the students' bundle.")] = 20_000,
    items: Annotated[int, typer.Option(help="Items of the students' bundle.")] = 100_000,
    memory_users: Annotated[int, typer.Option(help="Of the smaller export for memory.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Repeats of everything.")] = 3,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Export, run the floors in turns, and tell."""
    if shutil.which("redis-cli") is None:
        raise SystemExit("no redis-cli on this machine: install redis-tools")
    _, others = separate_cores()
    times: dict[str, list[float]] = {"models": [], "redis": [], "file": [], "pipe": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = folder / "bundle"
        write_student_bundle(bundle, users, items, PAIRS)
        peaks = _peaks(folder, memory_users)
        inputs = read_inputs(bundle)
        for _ in range(rounds):
            times["models"].append(_run_models(bundle, inputs))
            with redis_serving(folder, others) as (_, url):
                times["redis"].append(_export(bundle, url).seconds)
                commands = folder / "commands"
                _write_commands(url, commands)
            with redis_serving(folder, others) as (_, url):
                times["pipe"].append(_pipe(url, commands))
            store = folder / "store"
            times["file"].append(_export(bundle, f"file:{store}").seconds)
            shutil.rmtree(store)
    tell(_section(times, peaks, users, items, memory_users), save=save)


def read_inputs(bundle: Path) -> Inputs:
    """Read a bundle's tables and cut them into the batches that its models get.

    Parameters
    ----------
    bundle : Path
        Its folder.

    Returns
    -------
    list of (str, dict of str to ndarray)
        Model and inputs of each batch, in the exporter's order.
    """
    found: Inputs = []
    with prepare(load_bundle(bundle), MOST_PAIRS, lambda _: None) as prepared:
        found += [("item", batch.inputs) for batch in item_batches(prepared, 0)]
        for batch in user_batches(prepared, 0):
            found += [("user", batch.user_inputs), ("user_category", batch.pair_inputs)]
    return found


def _run_models(bundle: Path, inputs: Inputs) -> float:
    with prepare(load_bundle(bundle), MOST_PAIRS, lambda _: None) as prepared:
        began = time.perf_counter()
        for kind, batch in inputs:
            prepared.models[kind].run(batch)
        return time.perf_counter() - began


def _export(bundle: Path, store: str) -> Cost:
    command = [sys.executable, "-m", "exporter", "--version", VERSION, "--bundle", str(bundle)]
    return run_child([*command, "--store", store, "--grace-seconds", "0", "--json"])


def _write_commands(url: str, file: Path) -> None:
    """Write the commands that rebuild a server's keys, in Redis's protocol."""
    with redis.Redis.from_url(url) as client, file.open("wb") as out:
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            if kind == b"hash":
                fields: dict[bytes, bytes] = client.hgetall(key)
                flat = [part for pair in fields.items() for part in pair]
                out.writelines(_packed(b"HSET", key, *flat))
            elif kind == b"string":
                value: Any = client.get(key)
                out.writelines(_packed(b"SET", key, value))


def _packed(*words: bytes) -> Iterator[bytes]:
    yield b"*%d\r\n" % len(words)
    for word in words:
        yield b"$%d\r\n%b\r\n" % (len(word), word)


def _pipe(url: str, commands: Path) -> float:
    began = time.perf_counter()
    with commands.open("rb") as given:
        subprocess.run(
            ["redis-cli", "-u", url, "--pipe"], stdin=given, stdout=subprocess.DEVNULL, check=True
        )
    return time.perf_counter() - began


def _peaks(folder: Path, users: int) -> list[float]:
    """Return the exporter's largest resident set, MiB, for as many users and four times as many."""
    peaks = []
    for count in (users, 4 * users):
        bundle, store = folder / f"bundle-{count}", folder / f"store-{count}"
        write_bundle(bundle, count, 10, 64)
        peaks.append(_export(bundle, f"file:{store}").peak_mib)
        shutil.rmtree(bundle)
        shutil.rmtree(store)
    return peaks


def _section(
    times: dict[str, list[float]], peaks: list[float], users: int, items: int, memory_users: int
) -> Section:
    def ratio(floor: str, export: str) -> list[float]:
        return [one / other for one, other in zip(times[floor], times[export], strict=True)]

    vectors = users * (1 + PAIRS) + items
    figures = [
        Figure(
            "rate of an export to Redis, of onnxruntime's alone",
            ratio("models", "redis"),
            target=0.6,
            stretch=0.8,
        ),
        Figure("rate of an export to file:, of onnxruntime's alone", ratio("models", "file")),
        Figure("rate of an export to Redis, of redis-cli --pipe's", ratio("pipe", "redis")),
        Figure(
            f"peak memory of {4 * memory_users:,} users to {memory_users:,}",
            [peaks[1] / peaks[0]],
        ),
    ]
    told = "; ".join(f"{name} {spread(values, 1)} s" for name, values in times.items())
    return Section(
        module="bench.export",
        title="Export",
        method=(
            f"keep's own students of default widths, random weights: {users:,} users with {PAIRS} "
            f"pairs each, {items:,} items, D = 192, f16, Redis on the same machine. An export is "
            f"`gkc-export` from start to end: reading and checking tables, models, writing, "
            f"reading back, publication. onnxruntime alone runs the same batches, held in memory. "
            f"`redis-cli --pipe` loads the commands that rebuild the same keys. In turns, "
            f"{len(times['redis'])} rounds. Memory: the exporter's largest resident set, "
            f"synthetic models, 10 pairs a user, to `file:`."
        ),
        figures=figures,
        notes=[
            f"Seconds for {vectors:,} vectors: {told}.",
            f"Peak memory: {peaks[0]:.0f} and {peaks[1]:.0f} MiB.",
        ],
    )


if __name__ == "__main__":
    typer.run(main)
