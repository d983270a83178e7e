"""Write a bundle: what pretraining hands to the exporter (ONNX models, tables, manifest)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gkc.arrays import I64
from keep.checkpoint import Pretraining, require_ids
from keep.compatibility import Compatibility, Maps
from keep.config import TOP_CATEGORIES
from keep.errors import ProblemError
from keep.features import PADDING, UNKNOWN, Features
from keep.knowledge import most_shown, tasks_told
from keep.log import Log
from keep.metrics_log import DayMetrics
from keep.model_card import CARD_FILE, model_card
from keep.to_onnx import INPUTS, OUTPUT, export_onnx, largest_difference, serving_models

TOLERANCE = 1e-5
"""Largest difference allowed between ONNX and torch."""
SAMPLE = 2000
"""Rows of each table that are compared."""
FILES = {"user": "users", "item": "items", "user_category": "user_categories"}
"""Model name to the name of the table that it is run on."""


class BundleError(ProblemError):
    """A bundle that cannot be written, or must not be used."""

    kind = "bundle "


@dataclass(frozen=True)
class Tables:
    """The rows that the exporter runs the models on."""

    users: pa.Table
    items: pa.Table
    user_categories: pa.Table


def bundle(
    state: Pretraining,
    log: Log,
    out: Path,
    top_categories: int = TOP_CATEGORIES,
    metrics: Sequence[DayMetrics] = (),
    compatible_with: Compatibility | None = None,
) -> list[str]:
    """Write a bundle of a checkpoint, check it against torch, and say in lines what it covers.

    ``out`` appears whole or not at all. Every user is paired with the ``top_categories`` most shown
    categories, besides the user's own. The log's test day tells what the tables cover. Vectors lie
    in the axes of the older version that the bundle is compatible with, if any.

    Raises
    ------
    BundleError
        If ``out`` is there already, or ONNX and torch differ by more than ``TOLERANCE``.
    LogSchemaError
        If the log lacks the string of an id that was pretrained on.
    OtherIdsError
        If its ids are not of the types of those pretrained on.
    """
    require_ids(state, log)
    require_absent(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    temporary.mkdir()
    try:
        tables = make_tables(state.features, top_categories)
        for name, table in vars(tables).items():
            pq.write_table(_named(table, log), temporary / f"{name}.parquet")
        maps = None if compatible_with is None else compatible_with.maps
        difference = _write_models(state, tables, temporary, maps)
        if not difference <= TOLERANCE:
            raise BundleError(out, f"ONNX differs from torch by {difference:.1e}; not written")
        covered = coverage(tables, log)
        rows = {name: table.num_rows for name, table in vars(tables).items()}
        card = model_card(
            out.name, state, log.info, rows, difference, covered, metrics, compatible_with
        )
        (temporary / CARD_FILE).write_text(card, encoding="utf-8")
        _write_manifest(state, out.name, temporary, compatible_with)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    counts = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    return [
        f"largest difference between ONNX and torch: {difference:.1e}",
        f"bundle of day {state.day}: {counts}",
        covered,
        *([] if compatible_with is None else [_in_axes(compatible_with)]),
    ]


def require_absent(out: Path) -> None:
    """Check that there is nothing yet where a bundle is to be.

    Raises
    ------
    BundleError
        If there is.
    """
    if out.exists():
        raise BundleError(out, "is there already; remove it or name another --out")


def _in_axes(older: Compatibility) -> str:
    errors = ", ".join(f"{part} {error:.3f}" for part, error in older.relative_error.items())
    space = "too far off to be of its" if older.vector_space is None else "of its"
    return f"in the axes of {older.checkpoint}, day {older.day}: {errors}; {space} vector space"


def make_tables(features: Features, top_categories: int) -> Tables:
    """Lay out every known user and item, and the user-category pairs to export.

    Raw ids are the keys; beside them stand the rows that the models take.
    """
    history = features.history[2:]  # (users, T), oldest first, padded on the left
    offsets = np.r_[0, np.cumsum((history != PADDING).sum(axis=1))].astype(np.int32)
    users = pa.table(
        {
            "user_id": features.users.ids,
            "user_row": np.arange(2, len(features.users)),
            "behaviour_items": pa.ListArray.from_arrays(offsets, history[history != PADDING]),
        }
    )
    category_rows = features.item_category[2:]
    items = pa.table(
        {
            "item_id": features.items.ids,
            "category_id": features.categories.ids[category_rows - 2],
            "item_row": np.arange(2, len(features.items)),
            "shop_row": features.item_shop[2:],
            "category_row": category_rows,
        }
    )
    user_rows, pair_categories = pair_rows(features, top_categories)
    pairs = pa.table(
        {
            "user_id": features.users.ids[user_rows - 2],
            "category_id": features.categories.ids[pair_categories - 2],
            "category_row": pair_categories,
        }
    )
    return Tables(users, items, pairs)


def _named(table: pa.Table, log: Log) -> pa.Table:
    """Give a table the ids that the log's source has, where the log's own stand for strings."""
    for kind in ("user", "item", "category"):
        column = f"{kind}_id"
        if column in table.column_names:
            place, ids = table.column_names.index(column), table[column].to_numpy()
            table = table.set_column(place, column, pa.array(log.named(kind, ids)))
    return table


def pair_rows(features: Features, top_categories: int) -> tuple[I64, I64]:
    """Choose the user-category pairs: each user's behaviour categories and the most shown ones.

    Returns
    -------
    users, categories : ndarray, shape (pairs,), int64
        Table rows, grouped by user, each pair once.
    """
    known = np.arange(2, len(features.users))
    top = most_shown(features, top_categories)
    line, _ = np.nonzero(features.history[2:])
    clicked = features.history[2:][features.history[2:] != PADDING]
    users = np.concatenate([np.repeat(known, len(top)), known[line]])
    categories = np.concatenate([np.tile(top, len(known)), features.item_category[clicked]])
    width = len(features.categories)
    pairs = np.unique(users * width + categories)
    return pairs // width, pairs % width


def coverage(tables: Tables, log: Log) -> str:
    """Say how much of the test day the exported rows answer; of that day only ids are looked at."""
    test = log.day(log.info.test_day)
    user, item, category = (
        column[test.sub_domain] for column in (test.user, test.item, test.category)
    )
    if len(user) == 0:
        return f"day {log.info.test_day} has no impression of the sub-domain to cover"
    exported = np.stack(
        [tables.user_categories[name].to_numpy() for name in ("user_id", "category_id")], axis=1
    )
    both = np.concatenate([exported, np.stack([user, category], axis=1)])
    _, code = np.unique(both, axis=0, return_inverse=True)
    shares = {
        "users": np.isin(user, tables.users["user_id"].to_numpy()).mean(),
        "items": np.isin(item, tables.items["item_id"].to_numpy()).mean(),
        "user-category pairs": np.isin(code[len(exported) :], code[: len(exported)]).mean(),
    }
    text = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    return f"coverage of the {len(user):,} test impressions (day {log.info.test_day}): {text}"


def _write_models(state: Pretraining, tables: Tables, folder: Path, maps: Maps | None) -> float:
    """Export the three models; return their largest difference from torch on table rows."""
    columns = _sample(state, tables)
    length = state.config.behaviours
    largest = 0.0
    for name, model in serving_models(state.models, maps).items():
        file = folder / f"{name}.onnx"
        export_onnx(name, model, length, file)
        largest = max(largest, largest_difference(name, model, file, columns[name]))
    return largest


def _sample(state: Pretraining, tables: Tables) -> dict[str, dict[str, I64]]:
    """Choose rows of each table, spread evenly, and the unknown row, as model inputs."""
    features = state.features
    users = np.r_[UNKNOWN, _spread(tables.users["user_row"].to_numpy())]
    rows = _spread(np.arange(tables.items.num_rows))
    items = {
        column: np.r_[UNKNOWN, tables.items[column].to_numpy()[rows]] for column in INPUTS["item"]
    }
    pairs = _spread(np.arange(tables.user_categories.num_rows))
    owners = features.users.rows(tables.user_categories["user_id"].to_numpy()[pairs])
    owners = np.r_[UNKNOWN, owners]
    categories = np.r_[UNKNOWN, tables.user_categories["category_row"].to_numpy()[pairs]]
    return {
        "user": {"user_row": users, "behaviour_items": features.history[users].astype(np.int64)},
        "item": items,
        "user_category": {
            "user_row": owners,
            "behaviour_items": features.history[owners].astype(np.int64),
            "category_row": categories,
        },
    }


def _spread(rows: I64) -> I64:
    chosen = np.linspace(0, len(rows) - 1, num=min(SAMPLE, len(rows)), dtype=np.int64)
    spread: I64 = rows[chosen]
    return spread


def _write_manifest(
    state: Pretraining, name: str, folder: Path, compatible_with: Compatibility | None
) -> None:
    """Describe the bundle; every file's checksum is in it."""
    manifest: dict[str, Any] = {
        "format": "gkc-bundle/1",
        "name": name,
        "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dim": state.config.dim,
        "category_dim": state.config.category_dim,
        "models": {
            model: {
                "file": f"{model}.onnx",
                "output": OUTPUT,
                "inputs": {column: column for column in INPUTS[model]},
            }
            for model in FILES
        },
        "tables": {table: f"{table}.parquet" for table in FILES.values()},
        "pad": {"behaviour_items": state.config.behaviours},
        "unknown": {
            model: {name: [] if name == "behaviour_items" else UNKNOWN for name in INPUTS[model]}
            for model in FILES
        },
        "sha256": {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.iterdir())
        },
    }
    space: str | None = state.vector_space
    if compatible_with is not None:
        manifest["compatible_with"] = [compatible_with.as_json()]
        space = compatible_with.vector_space
    if space is not None:
        manifest["vector_space"] = space
    manifest |= tasks_told(state) if compatible_with is None else compatible_with.tasks
    text = json.dumps(manifest, indent=2)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
