"""A bundle of keep's own students, default widths and random weights, with tables of any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from keep.config import PretrainConfig
from keep.layers import TableSizes
from keep.models import Models
from keep.to_onnx import INPUTS, OUTPUT, export_onnx, serving_models

SHOPS: Final = 10_000
CATEGORIES: Final = 1_000
FIRST_ROW: Final = 2
"""Rows 0 and 1 of every embedding table are padding and the unknown id."""
_SEED: Final = 1


def write_student_bundle(folder: Path, users: int, items: int, pairs: int) -> None:
    """Write a bundle of three tasks: D = D_c = 192.

    Parameters
    ----------
    folder : Path
        Made here.
    users, items : int
        How many, with ids from 0 on.
    pairs : int
        Categories of each user.
    """
    folder.mkdir()
    config = PretrainConfig()
    sizes = TableSizes(users + FIRST_ROW, items + FIRST_ROW, SHOPS, CATEGORIES)
    torch.manual_seed(_SEED)
    models = serving_models(Models(sizes, config, ("two_tower", "category")))
    for name, model in models.items():
        export_onnx(name, model, config.behaviours, folder / f"{name}.onnx")
    _write_tables(folder, users, items, pairs, config.behaviours)
    width = 192
    manifest = {
        "format": "gkc-bundle/1",
        "name": "bench-students",
        "created_at": "2021-12-20T03:00:00Z",
        "dim": width,
        "category_dim": width,
        "models": {
            name: {
                "file": f"{name}.onnx",
                "output": OUTPUT,
                "inputs": {column: column for column in columns},
            }
            for name, columns in INPUTS.items()
        },
        "tables": {name: f"{name}.parquet" for name in ("users", "items", "user_categories")},
        "pad": {"behaviour_items": config.behaviours},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _write_tables(folder: Path, users: int, items: int, pairs: int, behaviours: int) -> None:
    rng = np.random.default_rng(_SEED)
    user, item = np.arange(users), np.arange(items)
    history = rng.integers(FIRST_ROW, items + FIRST_ROW, (users, behaviours))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(history.reshape(-1)), behaviours)
    pq.write_table(
        pa.table(
            {
                "user_id": user,
                "user_row": user + FIRST_ROW,
                "behaviour_items": lists.cast(pa.list_(pa.int64())),
            }
        ),
        folder / "users.parquet",
    )
    category = rng.integers(FIRST_ROW, CATEGORIES, items)
    pq.write_table(
        pa.table(
            {
                "item_id": item,
                "category_id": category,
                "item_row": item + FIRST_ROW,
                "shop_row": rng.integers(FIRST_ROW, SHOPS, items),
                "category_row": category,
            }
        ),
        folder / "items.parquet",
    )
    own = np.tile(np.arange(pairs) + FIRST_ROW, users)
    pq.write_table(
        pa.table({"user_id": np.repeat(user, pairs), "category_id": own, "category_row": own}),
        folder / "user_categories.parquet",
    )
