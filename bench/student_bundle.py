"""A bundle of keep's own students, default widths and random weights, with tables of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from bench.bundles import lists, write_manifest
from keep.config import PretrainConfig
from keep.layers import TableSizes
from keep.models import Models
from keep.to_onnx import INPUTS, export_onnx, serving_models

SHOPS: Final = 10_000
CATEGORIES: Final = 1_000
FIRST_ROW: Final = 2
"""Rows 0 and 1 of every embedding table are padding and the unknown id."""
_SEED: Final = 1


def write_student_bundle(folder: Path, users: int, items: int, pairs: int) -> None:
    """Write a bundle of three tasks, D = D_c = 192, into a new folder.

    Ids of users and items count from 0 on; ``pairs`` are the categories of each user.
    """
    folder.mkdir()
    config = PretrainConfig()
    sizes = TableSizes(users + FIRST_ROW, items + FIRST_ROW, SHOPS, CATEGORIES)
    torch.manual_seed(_SEED)
    models = serving_models(Models(sizes, config, ("two_tower", "category")))
    for name, model in models.items():
        export_onnx(name, model, config.behaviours, folder / f"{name}.onnx")
    _write_tables(folder, users, items, pairs, config.behaviours)
    write_manifest(folder, config.dim, INPUTS, pad={"behaviour_items": config.behaviours})


def _write_tables(folder: Path, users: int, items: int, pairs: int, behaviours: int) -> None:
    rng = np.random.default_rng(_SEED)
    user, item = np.arange(users), np.arange(items)
    history = rng.integers(FIRST_ROW, items + FIRST_ROW, (users, behaviours))
    category = rng.integers(FIRST_ROW, CATEGORIES, items)
    pair = np.tile(np.arange(pairs) + FIRST_ROW, users)
    tables = {
        "users": {
            "user_id": user,
            "user_row": user + FIRST_ROW,
            "behaviour_items": lists(history),
        },
        "items": {
            "item_id": item,
            "category_id": category,
            "item_row": item + FIRST_ROW,
            "shop_row": rng.integers(FIRST_ROW, SHOPS, items),
            "category_row": category,
        },
        "user_categories": {
            "user_id": np.repeat(user, pairs),
            "category_id": pair,
            "category_row": pair,
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
