"""Synthetic bundles of any size: tables that are never in memory whole, and two-tower models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from gkc.arrays import I64

USER_ID_STEP = 1_000_003
"""User ``k`` has this id times ``k``: a fixed odd multiplier scatters the ids, as real ones are."""
_CHUNK = 50_000
_VOCABULARY = 50_000
_BEHAVIOURS = 50
_SEED = 1
_USERS = pa.schema([("user_id", pa.int64()), ("behaviours", pa.list_(pa.int64()))])
_PAIRS = pa.schema([("user_id", pa.int64()), ("category_id", pa.int64())])
_INPUTS = {
    "user": ("user_id", "behaviours"),
    "item": ("item_id", "category_id"),
    "user_category": ("user_id", "behaviours", "category_id"),
}


def write_bundle(
    folder: Path,
    pairs: I64,
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
    with pq.ParquetWriter(folder / "users.parquet", _USERS) as table:
        for ids in _chunks(len(pairs)):
            behaviours = lists(random.integers(1, _VOCABULARY, (len(ids), _BEHAVIOURS)))
            table.write_table(pa.table([ids, behaviours], schema=_USERS))
    with pq.ParquetWriter(folder / "user_categories.parquet", _PAIRS) as table:
        for ids in _chunks(len(pairs)):
            counts = pairs[ids // USER_ID_STEP]
            category = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            table.write_table(pa.table([np.repeat(ids, counts), category], schema=_PAIRS))
    item = np.arange(items)
    table = pa.table({"item_id": item, "category_id": item % categories})
    pq.write_table(table, folder / "items.parquet")
    for kind, columns in _INPUTS.items():
        onnx.save(_model(columns, dim), str(folder / f"{kind}.onnx"))
    write_manifest(folder, dim, _INPUTS)


def write_manifest(
    folder: Path, dim: int, inputs: Mapping[str, Sequence[str]], **more: object
) -> None:
    """Write the manifest of a bundle whose models take columns of the same names."""
    manifest = {
        "format": "gkc-bundle/1",
        "name": "bench",
        "created_at": "2021-12-20T03:00:00Z",
        "dim": dim,
        "category_dim": dim,
        "models": {
            kind: {
                "file": f"{kind}.onnx",
                "output": "knowledge",
                "inputs": {column: column for column in columns},
            }
            for kind, columns in inputs.items()
        },
        "tables": {name: f"{name}.parquet" for name in ("users", "items", "user_categories")},
        **more,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def lists(values: I64) -> Any:  # noqa: ANN401 - pyarrow publishes no types
    """Return values, (n, T), as a column of n lists."""
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1]).cast(pa.list_(pa.int64()))


def _chunks(users: int) -> Iterator[I64]:
    for start in range(0, users, _CHUNK):
        yield np.arange(start, min(start + _CHUNK, users), dtype=np.int64) * USER_ID_STEP


def _model(columns: Sequence[str], dim: int) -> onnx.ModelProto:
    """Sum embeddings of every input, then one hidden layer."""
    random = np.random.default_rng(_SEED)
    weights: dict[str, Any] = {
        "vocabulary": np.array(_VOCABULARY, np.int64),
        "one": np.ones(1, np.int64),
        "embedding": random.standard_normal((_VOCABULARY, dim)).astype(np.float32) / 8,
        "hidden": random.standard_normal((dim, 2 * dim)).astype(np.float32) / 8,
        "last": random.standard_normal((2 * dim, dim)).astype(np.float32) / 8,
    }
    nodes, inputs = [], []
    for name in columns:
        shape = ["n", "T"] if name == "behaviours" else ["n"]
        inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, shape))
        nodes.append(helper.make_node("Mod", [name, "vocabulary"], [f"{name}_m"]))
        nodes.append(helper.make_node("Gather", ["embedding", f"{name}_m"], [f"{name}_e"]))
    summed = [f"{name}_e" for name in columns]
    if "behaviours" in columns:
        each, mean = ["behaviours_e"], ["behaviours_mean"]
        nodes.append(helper.make_node("ReduceMean", each, mean, axes=[1], keepdims=0))
        summed[summed.index("behaviours_e")] = "behaviours_mean"
    nodes += [
        helper.make_node("Sum", summed, ["sum"]),
        helper.make_node("MatMul", ["sum", "hidden"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("MatMul", ["active", "last"], ["knowledge"]),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        inputs,
        [helper.make_tensor_value_info("knowledge", TensorProto.FLOAT, ["n", dim])],
        [numpy_helper.from_array(v, name) for name, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
