"""Tables of rows to join, and what must become of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace as with_fields

from gkc.store import Origin, open_publisher
from gkc.testing.samples import make_sample, publish_sample
from tests.gkc.world import CATEGORIES, ITEMS, PARTS, STRANGERS, USERS, World, Worlds, named

EQUALLY_WIDE = ("half", "half-defaults", "full", "full-defaults", "int8", "int8-defaults")


def draw(
    rows: int, seed: int = 0, versions: Sequence[str] = (), strings: Sequence[str] = ()
) -> pa.Table:
    """Draw rows of known and unknown users and items, some without a category.

    ``strings`` are the kinds whose ids are strings, of user, item and category.
    """
    rng = np.random.default_rng(seed)

    def ids(kind: str, known: Sequence[int], empty: float = 0.0) -> pa.Array:
        drawn = rng.choice((*known, *STRANGERS), rows).tolist()
        held = pa.string() if kind in strings else pa.int64()
        return pa.array(
            [None if rng.random() < empty else named(kind, x, strings) for x in drawn], held
        )

    columns: dict[str, Any] = {
        "label": rng.random(rows),
        "user_id": ids("user", USERS),
        "item_id": ids("item", ITEMS),
        "category_id": ids("category", CATEGORIES, 0.3),
        "shown": pa.array(
            [[int(x)] * int(x) for x in rng.integers(0, 3, rows)], pa.list_(pa.int64())
        ),
    }
    if versions:
        columns["version"] = rng.choice(versions, rows)
    return pa.table(columns)


def write(table: pa.Table, path: Path, group: int = 100) -> Path:
    """Write a table as a Parquet file of small row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def read(path: Path) -> pa.Table:
    """Read one Parquet file, whatever its folder is called."""
    return pq.ParquetFile(path).read()


def expected(
    table: pa.Table, worlds: Sequence[World], dtype: str = "f32", parts: Sequence[str] = PARTS
) -> tuple[list[bytes], list[list[int]]]:
    """Return the bytes of each row's knowledge, and its statuses, one row at a time.

    ``worlds`` has the one of each row, or a single one.
    """
    kind = np.float16 if dtype == "f16" else np.float32
    of_row = list(worlds) * table.num_rows if len(worlds) == 1 else worlds
    ids = (table[name].to_pylist() for name in ("user_id", "item_id", "category_id"))
    told = [w.row(u, i, c, parts) for w, u, i, c in zip(of_row, *ids, strict=True)]
    return [np.array(row, dtype=kind).tobytes() for row, _ in told], [s for _, s in told]


def told(table: pa.Table, prefix: str = "") -> tuple[list[bytes], list[list[int]]]:
    """Return the same of a table that was joined."""
    knowledge = table[f"{prefix}knowledge"].combine_chunks()
    numbers = knowledge.flatten().to_numpy(zero_copy_only=True)
    rows = numbers.reshape(len(knowledge), knowledge.type.list_size)
    return [row.tobytes() for row in rows], table[f"{prefix}status"].to_pylist()


def worlds_of(table: pa.Table, worlds: Worlds) -> list[World]:
    """Return the world of each row's version."""
    return [worlds[version] for version in table["version"].to_pylist()]


def publish(url: str, version: str, seed: int = 0, space: str = "run-7") -> None:
    """Publish a small version of a vector space."""
    sample = make_sample(version, seed, users=20, items=20)
    spec = with_fields(sample.spec, origin=Origin(vector_space=space))
    publisher = open_publisher(url)
    publish_sample(publisher, replace(sample, spec=spec))
    publisher.close()
