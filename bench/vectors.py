"""Every vector of a version under a key of its own, for a peer that reads those."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import redis

from bench.tables import read_vectors
from bench.world import VERSION, World, export_tables

KEYS_AT_ONCE: Final = 10_000
PLAIN_NAMES: Final = {"item": "i", "user": "u", "user_category": "uc"}
"""What keys of the plain service call a part."""


def load_plain_keys(world: World) -> None:
    """Write every vector under the key that the plain service reads, beside the version itself."""
    with TemporaryDirectory() as scratch, redis.Redis.from_url(world.url) as client:
        tables = export_tables(world.url, Path(scratch) / "tables")
        for part, name in PLAIN_NAMES.items():
            columns, vectors = read_vectors(tables, part)
            ids = zip(*(column.tolist() for column in columns.values()), strict=True)
            names = [":".join((VERSION, name, *map(str, key))) for key in ids]
            for start in range(0, len(names), KEYS_AT_ONCE):
                some = slice(start, start + KEYS_AT_ONCE)
                client.mset(dict(zip(names[some], map(bytes, vectors[some]), strict=True)))
