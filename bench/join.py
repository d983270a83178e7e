"""Rate of ``gkc join`` beside PyArrow alone, pandas and Feast; and its memory.

    python -m bench.join [--rows N] [--save]

A store in files, and a table of users and items drawn at random. In turns: ``gkc join`` from start
to end, and `bench.join_floor`, which reads the same table and writes random numbers. Then it takes
turns with `bench.join_peer`, for fewer rows, in ``.venv-feast``.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from bench.bundles import USER_ID_STEP
from bench.checkouts import HERE
from bench.environments import separate_environment
from bench.feast import write_repository
from bench.generations import publish_numbers
from bench.options import Rounds, Save
from bench.processes import anonymous_mib
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import Stage, in_turns, ratios
from bench.world import VERSION, Shape, export_tables

SHAPE: Final = Shape(users=1_000_000, items=100_000, pairs=10)
GROUP_ROWS: Final = 1 << 17
TICK_SECONDS: Final = 0.02


Run = tuple[float, float]
"""Seconds that a command took, and the most memory of its own, MiB."""
Seconds = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Peer:
    """Somebody else who joins, in an environment of its own."""

    told: str
    rows: int
    """At which it is measured here."""
    rounds: int
    target: float


PEERS: Final = {
    "feast": Peer("Feast's historical retrieval", 1_000_000, 1, 20),
    "pandas": Peer("a pandas merge", 1_000_000, 2, 2),
}
"""Found once, on two cores that others kept busy: 10^4, 10^5 and 10^6 rows took Feast 72, 83 and
127 s of CPU (10^5 in many row groups: 76) and 290 s by the clock at most, and pandas 14, 17 and 25.
10^7 was not tried: by these, about 10 minutes for Feast; pandas, 3 and about 16 GB of memory.
"""
METHOD: Final = f"""\
{{rows:,}} pairs of {SHAPE.users:,} users and {SHAPE.items:,} items drawn at random, one file; \
`file:`, D = {SHAPE.dim}, {SHAPE.pairs} pairs a user, f16, all parts. `gkc join` from start to \
end, until the file is on disk. In turns with PyArrow, which reads the same file and writes a \
table of the same schema, row groups and codecs, with random numbers drawn once. Memory: RssAnon, \
the largest of samples every {TICK_SECONDS * 1000:.0f} ms. The peers join the same vectors, from \
the tables of `gkc export-table`, to fewer rows, in turns with `gkc join` of as many: the most \
that Feast joined in 10 minutes, by powers of ten. (pandas may do ten times as many, but not in \
the minutes that this measurement has.) Feast has its `file` store, a view for each kind of key \
and a vector as one feature, its bytes; it does not lay rows, which pandas does."""


def main(
    *,
    rows: Annotated[int, typer.Option(min=10, help="Of the table.")] = 10_000_000,
    rounds: Rounds = 3,
    save: Save = False,
) -> None:
    """Join and write in turns, and tell."""
    with Stage() as stage:
        folder = stage.folder
        store = publish_numbers(f"file:{folder / 'store'}", SHAPE)
        large, small = (write_table(folder / f"in-{n}", n, SHAPE) for n in (rows, rows // 10))
        _, few = join(store, small, folder / "joined")
        found = in_turns(
            {
                "join": lambda: join(store, large, folder / "joined"),
                "floor": lambda: write_alone(large, folder / "joined", folder / "floor"),
            },
            rounds,
        )
        peers = beside_peers(folder, store, rows)
    tell(section(found, few, rows, peers), save=save)


def write_table(path: Path, rows: int, shape: Shape) -> Path:
    """Write a table of random users, items and their categories, a label and a time."""
    rng = np.random.default_rng(1)
    items = rng.integers(0, shape.items, rows)
    table = pa.table(
        {
            "user_id": rng.integers(0, shape.users, rows) * USER_ID_STEP,
            "item_id": items,
            "category_id": items % shape.categories,
            "label": rng.integers(0, 2, rows).astype(np.int8),
            "time": np.arange(rows),
        }
    )
    pq.write_table(table, path, row_group_size=GROUP_ROWS)
    return path


def join(store: str, source: Path, target: Path) -> Run:
    """Join a table; return the seconds that it took, and the most memory of its own, MiB."""
    target.unlink(missing_ok=True)
    return run(join_command(store, source, target))


def join_command(store: str, source: Path, target: Path, *more: str) -> list[str]:
    """Return the command that joins a table."""
    where = ("join", "--version", VERSION, "--store", store, "--dtype", "f16", *more)
    return HERE.module("gkc", *where, str(source), str(target))


def write_alone(source: Path, like: Path, target: Path) -> Run:
    """Read and write alone."""
    target.unlink(missing_ok=True)
    return run(HERE.module("bench.join_floor", str(source), str(like), str(target)))


def beside_peers(folder: Path, store: str, most: int) -> dict[str, Seconds]:
    """Join in turns with each peer, which merges the same vectors to the same rows."""
    program = [str(separate_environment("feast") / "python"), "-m", "bench.join_peer"]
    export_tables(store, folder / "tables")
    write_repository(folder / "feast", {"type": "sqlite", "path": str(folder / "online.db")})
    run([*program, "prepare", str(folder)])
    found = {}
    for name, peer in PEERS.items():
        source = write_table(folder / f"in-{name}", min(peer.rows, most), SHAPE)
        command = [*program, name, str(folder), str(source), str(folder / "merged")]
        measures = {
            "join": partial(join, store, source, folder / "joined"),
            "peer": partial(run, command),
        }
        found[name] = seconds_of(in_turns(measures, peer.rounds))
    return found


def seconds_of(found: Mapping[str, Sequence[Run]]) -> Seconds:
    """Leave the memory out."""
    return {name: [seconds for seconds, _ in runs] for name, runs in found.items()}


def run(command: Sequence[str]) -> Run:
    """Run a command; return the seconds that it took, and the most memory of its own, MiB."""
    began, peak = time.perf_counter(), 0.0
    environment = os.environ | HERE.environment
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_mib(process.pid))
            time.sleep(TICK_SECONDS)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - began, peak


def section(
    found: Mapping[str, Sequence[Run]], few: float, rows: int, peers: Mapping[str, Seconds]
) -> Section:
    """Put what was found in the form that is told.

    Parameters
    ----------
    found : mapping of str to sequence of Run
        Of ``join`` and ``floor``, in each round.
    few : float
        The most memory for a tenth of the rows, MiB.
    rows : int
    peers : mapping of str to Seconds
    """
    seconds, peaks = seconds_of(found), [peak for _, peak in found["join"]]
    return Section(
        module="bench.join",
        title="Join",
        method=METHOD.format(rows=rows),
        figures=[
            Figure(
                "rows/s of gkc join to PyArrow's reading and writing",
                ratios(seconds["floor"], seconds["join"]),
                target=0.5,
                stretch=0.7,
            ),
            *(
                Figure(
                    f"rows/s of gkc join to {PEERS[name].told}",
                    ratios(times["peer"], times["join"]),
                    target=PEERS[name].target,
                    digits=1,
                )
                for name, times in peers.items()
            ),
            Figure(
                f"memory of a join of {rows:,} rows to {rows // 10:,}",
                [peak / few for peak in peaks],
                target=1.1,
                at_most=True,
            ),
            Figure("rows joined", [rows / taken for taken in seconds["join"]], "/s", digits=0),
        ],
        notes=[
            f"Memory: {few:.0f} MiB, and {', '.join(f'{peak:.0f}' for peak in peaks)} MiB.",
            *(
                f"{min(PEERS[name].rows, rows):,} rows by {PEERS[name].told}: "
                f"{spread(times['peer'], 1)} s; by gkc join: {spread(times['join'], 1)} s."
                for name, times in peers.items()
            ),
        ],
    )


if __name__ == "__main__":
    typer.run(main)
