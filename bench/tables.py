"""What is stored of a version, by the tables of ``gkc export-table``; read in any environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

KINDS: Final = {
    "user": ("users", ("user_id",), "k_u"),
    "item": ("items", ("item_id",), "k_i"),
    "user_category": ("user_categories", ("user_id", "category_id"), "k_uc"),
}
"""Of each stored part: its table, its keys, and what Feast calls a vector. In a row's order."""


def read_vectors(
    tables: Path, kind: str
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.float16]]:
    """Return the columns of ids of a stored part, (n,) each, and its vectors, (n, D)."""
    name, keys, _ = KINDS[kind]
    table = pq.read_table(tables / f"{name}.parquet")
    flat: NDArray[np.float16] = table["knowledge"].combine_chunks().flatten().to_numpy()
    return {key: table[key].to_numpy() for key in keys}, flat.reshape(len(table), -1)
