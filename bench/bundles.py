"""Synthetic bundles of any size: tables that are never in memory whole, and two-tower models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

USER_ID_STEP = 1_000_003
"""User ``k`` has this id times ``k``: a fixed odd multiplier scatters the ids, as real ones are."""
Counts = npt.NDArray[np.int64]
_CHUNK = 50_000
_VOCABULARY = 50_000
_BEHAVIOURS = 50
_SEED = 1


def write_bundle(
    folder: Path,
    pairs: Counts,
    dim: int,
    *,
    items: int = 100_000,
    categories: int = 900,
) -> None:
    """Write a bundle.

    Parameters
    ----------
    folder : Path
        Made here.
    pairs : ndarray, shape (users,), int64
        Of each user, with categories from 0 on; ids are multiples of ``USER_ID_STEP``.
    dim : int
        Width of every vector.
    items : int
        How many, with ids from 0 on; item ``k`` is of category ``k`` modulo ``categories``.
    categories : int
        Of the items.
    """
    folder.mkdir()
    random = np.random.default_rng(_SEED)
    with pq.ParquetWriter(folder / "users.parquet", _schema("user_id", behaviours=True)) as table:
        for ids in _chunks(len(pairs)):
            lists = random.integers(1, _VOCABULARY, (len(ids), _BEHAVIOURS))
            column = pa.FixedSizeListArray.from_arrays(pa.array(lists.reshape(-1)), _BEHAVIOURS)
            table.write_table(
                pa.table(
                    {"user_id": ids, "behaviours": column.cast(pa.list_(pa.int64()))},
                    _schema("user_id", behaviours=True),
                )
            )
    with pq.ParquetWriter(
        folder / "user_categories.parquet", _schema("user_id", "category_id")
    ) as table:
        for ids in _chunks(len(pairs)):
            own = pairs[ids // USER_ID_STEP]
            category = np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
            table.write_table(pa.table({"user_id": np.repeat(ids, own), "category_id": category}))
    item = np.arange(items)
    table = pa.table({"item_id": item, "category_id": item % categories})
    pq.write_table(table, folder / "items.parquet")
    _write_models(folder, dim)


def _schema(*ids: str, behaviours: bool = False) -> pa.Schema:
    fields = [(name, pa.int64()) for name in ids]
    return pa.schema([*fields, ("behaviours", pa.list_(pa.int64()))] if behaviours else fields)


def _chunks(users: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, users, _CHUNK):
        yield np.arange(start, min(start + _CHUNK, users), dtype=np.int64) * USER_ID_STEP


def _write_models(folder: Path, dim: int) -> None:
    inputs = {
        "user": {"user_id": "user_id", "behaviours": "behaviours"},
        "item": {"item_id": "item_id", "category_id": "category_id"},
        "user_category": {
            "user_id": "user_id",
            "behaviours": "behaviours",
            "category_id": "category_id",
        },
    }
    for kind, columns in inputs.items():
        onnx.save(_model(list(columns), dim), str(folder / f"{kind}.onnx"))
    manifest = {
        "format": "gkc-bundle/1",
        "name": "bench",
        "created_at": "2021-12-20T03:00:00Z",
        "dim": dim,
        "category_dim": dim,
        "models": {
            kind: {"file": f"{kind}.onnx", "output": "knowledge", "inputs": columns}
            for kind, columns in inputs.items()
        },
        "tables": {name: f"{name}.parquet" for name in ("users", "items", "user_categories")},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _model(columns: list[str], dim: int) -> onnx.ModelProto:
    """Sum embeddings of every input, then one hidden layer."""
    random = np.random.default_rng(_SEED)
    weights: dict[str, Any] = {
        "vocabulary": np.array(_VOCABULARY, np.int64),
        "one": np.ones(1, np.int64),
        "embedding": random.standard_normal((_VOCABULARY, dim)).astype(np.float32) / 8,
        "hidden": random.standard_normal((dim, 2 * dim)).astype(np.float32) / 8,
        "last": random.standard_normal((2 * dim, dim)).astype(np.float32) / 8,
    }
    nodes, given = [], []
    for name in columns:
        is_list = name == "behaviours"
        shape = ["n", "T"] if is_list else ["n"]
        given.append(helper.make_tensor_value_info(name, TensorProto.INT64, shape))
        nodes.append(helper.make_node("Mod", [name, "vocabulary"], [f"{name}_m"]))
        found = f"{name}_g" if is_list else f"{name}_e"
        nodes.append(helper.make_node("Gather", ["embedding", f"{name}_m"], [found]))
        if is_list:
            mean = helper.make_node("ReduceMean", [found], [f"{name}_e"], axes=[1], keepdims=0)
            nodes.append(mean)
    nodes += [
        helper.make_node("Sum", [f"{name}_e" for name in columns], ["sum"]),
        helper.make_node("MatMul", ["sum", "hidden"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("MatMul", ["active", "last"], ["knowledge"]),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        given,
        [helper.make_tensor_value_info("knowledge", TensorProto.FLOAT, ["n", dim])],
        [numpy_helper.from_array(v, name) for name, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
