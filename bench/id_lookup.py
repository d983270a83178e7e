"""Measure how fast 500 random ids are found among a million and ten million.

Compared are the table file of the store, the buckets of eight ids that it was measured against, and
a binary search of sorted ids. Each question asks for other ids, so that their pages and cache lines
are as cold as a service's; all ids asked for are known.

    python -m bench.id_lookup [--ids N ...] [--asked N ...] [--questions N]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from bench.report import print_circumstances
from gkc.arrays import I64
from gkc.store import ItemBlock, hash_ids
from gkc.store.backends.file.writer import FileTarget
from gkc.store.table import MappedItemTable
from gkc.store.table_format import TableShape
from gkc.store.table_writer import ItemTableWriter

LookUp = Callable[[I64], I64]
WAYS: Final = 8
BLOCK: Final = 100_000


def main() -> None:
    """Print one table: p50 and p90 in microseconds, and bytes of index an id."""
    parser = argparse.ArgumentParser(prog="python -m bench.id_lookup", description=__doc__)
    parser.add_argument("--ids", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--asked", type=int, nargs="*", default=[1, 8, 500])
    parser.add_argument("--questions", type=int, default=400)
    arguments = parser.parse_args()
    print_circumstances("bench.id_lookup")
    print(f"{'ids':>10} {'asked':>6}  {'look-up':<16} {'p50 us':>8} {'p90 us':>8} {'bytes/id':>9}")
    for count in arguments.ids:
        measure(count, arguments.asked, arguments.questions)


def measure(count: int, sizes: list[int], questions: int) -> None:
    """Measure all look-ups among ``count`` ids."""
    rng = np.random.default_rng(1)
    ids = np.unique(rng.integers(-(2**63), 2**63 - 1, count, dtype=np.int64))
    ids = ids[np.argsort(hash_ids(ids))]
    with tempfile.TemporaryDirectory() as directory:
        table = make_table(Path(directory) / "items.gkt", ids)
        index_bytes = sum(table.header.sections[name].length for name in ("starts", "ids"))
        buckets = EightWayBuckets(ids)
        ways: dict[str, tuple[LookUp, float]] = {
            "table file": (table.rows_of, index_bytes / len(ids)),
            "buckets of 8": (buckets.rows_of, buckets.bytes / len(ids)),
            "binary search": (SortedIds(ids).rows_of, 16.0),
        }
        for asked in sizes:
            picked = [rng.integers(0, len(ids), asked) for _ in range(questions)]
            asks = [ids[rows] for rows in picked]
            for name, (rows_of, size) in ways.items():
                for ask, rows in zip(asks[:20], picked[:20], strict=True):
                    if not (rows_of(ask) == rows).all():
                        raise SystemExit(f"{name} finds wrong rows")
                p50, p90 = np.quantile(time_each(rows_of, asks), [0.5, 0.9]) * 1e6
                print(f"{count:>10} {asked:>6}  {name:<16} {p50:8.1f} {p90:8.1f} {size:9.1f}")
        table.close()


def time_each(rows_of: LookUp, asks: list[I64]) -> list[float]:
    """Return the seconds that each question takes."""
    seconds = []
    for ask in asks:
        begin = time.perf_counter()
        rows_of(ask)
        seconds.append(time.perf_counter() - begin)
    return seconds


def make_table(path: Path, ids: I64, stride: int = 2) -> MappedItemTable:
    """Write and map a table of these ids, prefaulted, with vectors of ``stride`` bytes."""
    target = FileTarget(path)
    writer = ItemTableWriter(target, "bench", TableShape("items", len(ids), stride))
    for start in range(0, len(ids), BLOCK):
        part = ids[start : start + BLOCK]
        none = np.zeros(len(part), dtype=np.int64)
        k_i = np.zeros((len(part), stride), dtype=np.uint8)
        writer.append(ItemBlock(part, k_i, none, none.astype(np.bool_)))
    target.finish(writer.finish())
    target.close()
    table = MappedItemTable(path, "bench")
    table.prefault()
    return table


class EightWayBuckets:
    """Buckets of eight ids on a cache line each, at most half full; the rest is kept sorted."""

    def __init__(self, ids: I64) -> None:
        bits = int(np.ceil(np.log2(len(ids) / (WAYS / 2))))
        self._shift = np.uint64(64 - bits)
        buckets = (hash_ids(ids) >> self._shift).view(np.int64)
        first = np.searchsorted(buckets, np.arange(1 << bits))
        rank = np.arange(len(ids)) - first[buckets]
        fits = rank < WAYS
        memory = np.zeros((WAYS << bits) + WAYS, dtype=np.int64)
        skip = -memory.ctypes.data // 8 % WAYS
        self._ids = memory[skip : skip + (WAYS << bits)].reshape(-1, WAYS)
        self._rows = np.full((1 << bits, WAYS), -1, dtype=np.int32)
        self._ids[buckets[fits], rank[fits]] = ids[fits]
        self._rows[buckets[fits], rank[fits]] = np.flatnonzero(fits)
        self._flat_rows = self._rows.reshape(-1)
        rest = np.flatnonzero(~fits)
        order = np.argsort(ids[rest])
        self._rest = SortedIds(ids[rest][order], rest[order]) if len(rest) else None
        self.bytes = self._ids.nbytes + self._rows.nbytes + 16 * len(rest)

    def rows_of(self, ids: I64) -> I64:
        """Return the row of each id, -1 where unknown."""
        buckets = (hash_ids(ids) >> self._shift).view(np.int64)
        hits = np.flatnonzero(self._ids.take(buckets, axis=0) == ids[:, np.newaxis])
        which = hits >> 3
        rows = np.full(len(ids), -1, dtype=np.int64)
        rows[which] = self._flat_rows[(buckets[which] << 3) + (hits & 7)]
        missing = np.flatnonzero(rows < 0)
        if self._rest is not None and missing.size:
            rows[missing] = self._rest.rows_of(ids[missing])
        return rows


class SortedIds:
    """Ids in ascending order, found by binary search."""

    def __init__(self, ids: I64, rows: I64 | None = None) -> None:
        order = np.argsort(ids)
        self._ids = ids[order]
        self._rows = (np.arange(len(ids)) if rows is None else rows)[order]

    def rows_of(self, ids: I64) -> I64:
        """Return the row of each id, -1 where unknown."""
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[at] == ids, self._rows[at], -1)


if __name__ == "__main__":
    main()
