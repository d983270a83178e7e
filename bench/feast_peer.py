"""Feast's side of ``bench.feast``, run in ``.venv-feast``: registers the views and fills them.

python -m bench.feast_peer REPOSITORY

REPOSITORY holds ``feature_store.yaml`` and the vectors, ``KIND.npz``. A vector is kept as the bytes
of its float16, the form that Feast answers fastest. Prints the versions of its packages as JSON.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from feast import (  # type: ignore[import-not-found]
    Entity,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    ValueType,
)
from feast.types import Bytes, Int64  # type: ignore[import-not-found]

from bench.tables import KINDS

ROWS_AT_ONCE = 2000
"""Of a call of ``write_to_online_store``; larger frames are no faster."""
PACKAGES = ("feast", "fastapi", "uvicorn", "gunicorn", "uvloop", "redis", "hiredis", "protobuf")


def main(repository: Path) -> None:
    """Register a view for each kind of key, and write its vectors."""
    store = store_with_views(repository)
    for kind, (_, keys, feature) in KINDS.items():
        columns = np.load(repository / f"{kind}.npz")
        ids, vectors = {key: columns[key] for key in keys}, columns["vectors"]
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            now = pd.Timestamp.now(tz="UTC")
            frame = pd.DataFrame(
                {key: column[some] for key, column in ids.items()}
                | {feature: list(map(bytes, vectors[some])), "event_timestamp": now}
            )
            store.write_to_online_store(kind, frame)
    print(json.dumps({name: version(name) for name in PACKAGES}))


def store_with_views(repository: Path) -> FeatureStore:
    """Register a view for each kind of key; batches would come from ``KIND.parquet``."""
    entities = {
        f"{key}_id": Entity(name=key, join_keys=[f"{key}_id"], value_type=ValueType.INT64)
        for key in ("user", "item", "category")
    }
    store = FeatureStore(str(repository))
    store.apply([*entities.values(), *(_view(kind, entities, repository) for kind in KINDS)])
    return store


def _view(kind: str, entities: dict[str, Entity], repository: Path) -> FeatureView:
    _, keys, feature = KINDS[kind]
    source = FileSource(
        name=f"{kind}_source",
        path=str(repository / f"{kind}.parquet"),
        timestamp_field="event_timestamp",
    )
    schema = [Field(name=key, dtype=Int64) for key in keys]
    return FeatureView(
        name=kind,
        entities=[entities[key] for key in keys],
        schema=[*schema, Field(name=feature, dtype=Bytes)],
        source=source,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
