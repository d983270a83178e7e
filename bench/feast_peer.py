"""Feast's side of ``bench.feast``, run in ``.venv-feast``: the views, the loading and the SDK.

python -m bench.feast_peer REPOSITORY

REPOSITORY holds ``feature_store.yaml`` and the vectors, ``KIND.npz``. Every line of standard input
is a JSON list, a method and its arguments; every line of standard output, a JSON list as well,
answers one. The first line of output names the versions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from feast.types import Array, Bytes, Float32, Int64  # type: ignore[import-not-found]

from bench.feast_views import FORMS, KINDS, Kind

TYPES = {"bytes": Bytes, "floats": Array(Float32)}
ROWS_AT_ONCE = 2000
"""Of a call of ``write_to_online_store``; larger frames are no faster."""
PACKAGES = (
    *("feast", "fastapi", "uvicorn", "gunicorn", "uvloop", "redis", "hiredis"),
    *("protobuf", "numpy", "pandas", "pyarrow"),
)


class Peer:
    """A Feast repository, its views registered.

    Parameters
    ----------
    repository : Path
        Its folder.
    """

    def __init__(self, repository: Path) -> None:
        self.store = FeatureStore(str(repository))
        self.columns = {kind: dict(np.load(repository / f"{kind.name}.npz")) for kind in KINDS}
        keys = ("user", "item", "category")
        entities = {
            f"{key}_id": Entity(name=key, join_keys=[f"{key}_id"], value_type=ValueType.INT64)
            for key in keys
        }
        views = [_view(kind, form, entities, repository) for form in FORMS for kind in KINDS]
        self.store.apply([*entities.values(), *views])

    def write(self, form: str, part: int, parts: int) -> tuple[int, float]:
        """Write one of equal parts of all vectors to the online store.

        Parameters
        ----------
        form : str
            Of ``FORMS``.
        part, parts : int
            Which, from 0 on, and of how many.

        Returns
        -------
        int, float
            Rows, and seconds in ``write_to_online_store``: making the frames is not counted.
        """
        rows, seconds = 0, 0.0
        for kind in KINDS:
            count = len(self.columns[kind]["vectors"])
            end = count * (part + 1) // parts
            for start in range(count * part // parts, end, ROWS_AT_ONCE):
                frame = self._frame(kind, form, start, min(start + ROWS_AT_ONCE, end))
                began = time.perf_counter()
                self.store.write_to_online_store(kind.view(form), frame)
                seconds += time.perf_counter() - began
                rows += len(frame)
        return rows, seconds

    def time_sdk(self, questions: str, first: int, count: int) -> list[float]:
        """Time ``get_online_features`` of the SDK.

        Parameters
        ----------
        questions : str
            A file of ``feast_question``, a line of JSON each.
        first, count : int
            Which of its lines, from ``first`` on, in turn.

        Returns
        -------
        list of float
            Milliseconds of each; what it returns is not turned into a dictionary.
        """
        lines = Path(questions).read_text(encoding="ascii").splitlines()
        times = []
        for number in range(first, first + count):
            question = json.loads(lines[number % len(lines)])
            began = time.perf_counter()
            self.store.get_online_features(
                features=question["features"], entity_rows=question["entities"]
            )
            times.append(1000 * (time.perf_counter() - began))
        return times

    def _frame(self, kind: Kind, form: str, start: int, end: int) -> pd.DataFrame:
        chosen = {name: column[start:end] for name, column in self.columns[kind].items()}
        vectors = chosen.pop("vectors")
        values = map(bytes, vectors) if form == "bytes" else vectors.astype(np.float32)
        now = pd.Timestamp.now(tz="UTC")
        return pd.DataFrame({**chosen, kind.feature: list(values), "event_timestamp": now})


def _view(kind: Kind, form: str, entities: dict[str, Any], repository: Path) -> FeatureView:
    name = kind.view(form)
    # A view must name where batches would come from; nothing is read from there.
    source = FileSource(
        name=f"{name}_source",
        path=str(repository / f"{name}.parquet"),
        timestamp_field="event_timestamp",
    )
    schema = [Field(name=key, dtype=Int64) for key in kind.keys]
    return FeatureView(
        name=name,
        entities=[entities[key] for key in kind.keys],
        schema=[*schema, Field(name=kind.feature, dtype=TYPES[form])],
        source=source,
    )


def main() -> None:
    """Do what standard input asks until it ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Feast prints; ours are the answers only
    peer = Peer(Path(sys.argv[1]))
    commands = {"write": peer.write, "time_sdk": peer.time_sdk}
    print(json.dumps([(name, version(name)) for name in PACKAGES]), file=answers, flush=True)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        print(json.dumps(commands[command](*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
