"""A row's scores of the test day, one Parquet file per seed; every figure is computed from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gkc.arrays import F32, I64, Bools, Floats
from keep.atomic import replaced
from keep.errors import ProblemError

SCHEMA = pa.schema(
    [
        pa.field("user", pa.int64(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),
        pa.field("label", pa.bool_(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
"""Columns of a file; a row is one impression of the test day."""


class PredictionsError(ProblemError):
    """A file of predictions is missing or is none."""

    kind = "predictions "


@dataclass(frozen=True)
class Predictions:
    """What one model said about the test day's impressions; every field has one entry for each."""

    user: I64
    """(n,) int64."""
    item: I64
    """(n,) int64."""
    label: Bools
    """(n,) bool, whether the impression was positive."""
    score: F32
    """(n,) float32, higher means more likely positive."""


def slug(name: str) -> str:
    """Turn a row's name, ``KEEP (1 month)``, into its directory's, ``keep-1-month``.

    Raises
    ------
    ValueError
        If the name has neither a letter nor a digit.
    """
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not words:
        raise ValueError(f"{name!r} has neither a letter nor a digit to name a directory")
    return words


def prediction_path(directory: Path, table: str, row: str, seed: int) -> Path:
    """Name the file of a row and seed: ``predictions/<table>/<slug of row>/<seed>.parquet``."""
    return directory / "predictions" / table / slug(row) / f"{seed}.parquet"


def write_predictions(path: Path, user: I64, item: I64, label: Bools, score: Floats) -> None:
    """Write (n,) columns of predictions, whole or not at all; scores are stored as float32.

    Raises
    ------
    ValueError
        If the columns differ in length or a score is NaN.
    """
    if np.isnan(score).any():
        raise ValueError("scores hold NaN, which has no rank")
    columns = [user, item, label, score.astype(np.float32)]
    table = pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)
    with replaced(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read a file that ``write_predictions`` wrote.

    Raises
    ------
    PredictionsError
        If there is no such file, or it is not one of predictions.
    """
    if not path.is_file():
        raise PredictionsError(path, "is missing; run keep reproduce for its table again")
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as exc:
        raise PredictionsError(path, f"cannot be read ({exc}); remove it and run again") from exc
    if not table.schema.equals(SCHEMA):
        columns = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        raise PredictionsError(path, f"has the columns {columns}; remove it and run again")
    user, item, label, score = (table[name].to_numpy() for name in SCHEMA.names)
    return Predictions(user, item, label, score)
