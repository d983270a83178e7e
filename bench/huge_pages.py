"""Whether table files lie in huge pages, and what that saves when items are looked up.

A table as the store writes it, and a copy of it written in small pieces, answer the same questions
in turns, by compiled loops. Before each, other data pass through the core's cache.

    python -m bench.huge_pages
"""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.id_lookup import make_table
from bench.report import print_circumstances, spread
from gkc.arrays import I64
from gkc.http.acceleration import accelerate
from gkc.store import hash_ids
from gkc.store.table import MappedItemTable

ITEMS: Final = 1_000_000
STRIDE: Final = 128
"""Bytes of a vector: 64 halves."""
ASKED: Final = 500
QUESTIONS: Final = 400
ROUNDS: Final = 7
PIECE_BYTES: Final = 100_000
"""Of the copy; they begin and end within pages."""
EVICTING_BYTES: Final = 4 << 20
"""What passes through the cache in between; more than the second level of most cores."""


def main() -> None:
    """Print how much of each table is in huge pages, and how their times compare."""
    print_circumstances("bench.huge_pages")
    without = accelerate()
    if without:
        print(f"by numpy: {without}")
    ids = np.arange(ITEMS, dtype=np.int64)
    ids = ids[np.argsort(hash_ids(ids))]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        written, copied = Path(folder) / "written.gkt", Path(folder) / "copied.gkt"
        large = make_table(written, ids, STRIDE)
        copy_in_pieces(written, copied)
        small = MappedItemTable(copied, "bench")
        small.prefault()
        for table, file in ((large, written), (small, copied)):
            share = huge_bytes(file) / table.size_bytes
            print(f"{file.stem:8} {share:.0%} of {table.size_bytes >> 20} MiB in huge pages")
        ratios = []
        for _ in range(ROUNDS):
            asked = [rng.integers(0, ITEMS, ASKED) for _ in range(QUESTIONS)]
            times = {id(table): median_seconds(table, asked) for table in (large, small)}
            ratios.append(times[id(large)] / times[id(small)])
            print(f"{1e6 * times[id(large)]:.1f} us, copied {1e6 * times[id(small)]:.1f} us")
        print(f"time of {ASKED} items, as written to copied: {spread(ratios)}")
        large.close()
        small.close()


def copy_in_pieces(source: Path, target: Path) -> None:
    """Copy a file as a program that takes no care writes it."""
    with source.open("rb") as read, target.open("wb", buffering=0) as write:
        shutil.copyfileobj(read, write, PIECE_BYTES)


def huge_bytes(file: Path) -> int:
    """Return how much of a file this process has mapped by huge pages."""
    mappings = Path("/proc/self/smaps").read_text(encoding="utf-8")
    of_file = re.findall(
        rf"{re.escape(str(file))}\n(?:\w+: .*\n)*?FilePmdMapped: +(\d+) kB", mappings
    )
    return 1024 * sum(map(int, of_file))


def median_seconds(table: MappedItemTable, asked: list[I64]) -> float:
    """Return the median time in which items are found and copied out of the table."""
    evicting = np.zeros(EVICTING_BYTES, dtype=np.uint8)
    seconds = []
    for ids in asked:
        evicting.sum()
        began = time.perf_counter()
        table.take(table.rows_of(ids))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
