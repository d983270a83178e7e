"""The peers of ``bench.join``, run in ``.venv-feast``, which has pandas as well.

    python -m bench.join_peer prepare FOLDER
    python -m bench.join_peer feast|pandas FOLDER IN OUT

FOLDER holds ``tables``, from ``gkc export-table``, and ``feast``, a repository of Feast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytz  # type: ignore[import-untyped]

from bench.tables import KINDS, read_vectors

PUBLISHED: Final = np.datetime64("2021-12-20", "us")
ASKED: Final = pd.Timestamp("2021-12-21", tz=pytz.UTC)  # of another UTC, Feast goes row by row
PLAIN: Final = {"compression": "none", "use_dictionary": False}
"""What writes random numbers fastest."""


def prepare(folder: Path) -> None:
    """Write what Feast reads: vectors as bytes, and since when they have been there."""
    from bench.feast_peer import store_with_views  # pandas needs no Feast

    for kind, (_, _, feature) in KINDS.items():
        keys, vectors = read_vectors(folder / "tables", kind)
        as_bytes = pa.binary(2 * vectors.shape[1])
        buffers = [None, pa.py_buffer(vectors)]
        columns = {
            **keys,
            feature: pa.FixedSizeBinaryArray.from_buffers(as_bytes, len(vectors), buffers),
            "event_timestamp": pa.array(
                np.full(len(vectors), PUBLISHED), pa.timestamp("us", "UTC")
            ),
        }
        pq.write_table(pa.table(columns), folder / "feast" / f"{kind}.parquet", **PLAIN)
    store_with_views(folder / "feast")


def merge_by_feast(folder: Path, source: Path, target: Path) -> None:
    """Retrieve the vectors of all rows as of the time of each, and write them as they come."""
    from feast import FeatureStore  # type: ignore[import-not-found]

    rows = pd.read_parquet(source)
    rows["event_timestamp"] = ASKED + pd.to_timedelta(rows.pop("time"), unit="us")
    features = [f"{kind}:{feature}" for kind, (_, _, feature) in KINDS.items()]
    job = FeatureStore(str(folder / "feast")).get_historical_features(rows, features)
    pq.write_table(job.to_arrow(), target, **PLAIN)


def merge_by_pandas(folder: Path, source: Path, target: Path) -> None:
    """Merge the tables to the rows, lay each row's knowledge and status, and write them."""
    rows = merged = pd.read_parquet(source)
    for kind in KINDS:
        keys, vectors = read_vectors(folder / "tables", kind)
        frame = pd.DataFrame(vectors).add_prefix(f"{kind}.").assign(**keys)
        merged = merged.merge(frame, on=list(keys), how="left")
    parts = [merged.filter(regex=rf"^{kind}\.").to_numpy() for kind in KINDS]
    status = np.stack([~np.isnan(part[:, 0]) for part in parts], axis=1).astype(np.uint8)
    user, item, pair = (np.nan_to_num(part, copy=False) for part in parts)
    knowledge = np.concatenate([user, item, user * item, pair], axis=1)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    for name, values in (("knowledge", knowledge), ("status", status)):
        flat = pa.array(values.reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        table = table.append_column(name, column)
    pq.write_table(table, target, **PLAIN)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "prepare": prepare,
    "feast": merge_by_feast,
    "pandas": merge_by_pandas,
}

if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    COMMANDS[command](*map(Path, paths))
