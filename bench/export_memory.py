"""Peak memory and speed of an export, against the number of users.

Writes synthetic bundles (lists of behaviours, pairs of categories, two-tower models with a hidden
layer), exports each in a process of its own, and prints that process's largest resident set.

    python -m bench.export_memory --users 100000 --users 1000000 --pairs 10
    python -m bench.export_memory --users 100000 --pairs 40 --store redis://127.0.0.1:6379
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from onnx import TensorProto, helper, numpy_helper

from bench.child import run_child

_CHUNK = 50_000
_VOCABULARY = 50_000
_ITEMS = 100_000
_BEHAVIOURS = 50
_SEED = 1


def main(
    users: Annotated[list[int], typer.Option(help="Numbers of users, one export each.")],
    pairs: Annotated[int, typer.Option(help="Pairs of each user.")] = 10,
    dim: Annotated[int, typer.Option(help="Width of every vector.")] = 64,
    store: Annotated[str, typer.Option(help="Store URL; a directory of its own by default.")] = "",
    folder: Annotated[Path | None, typer.Option(help="Where bundles are made.")] = None,
) -> None:
    """Export bundles of several sizes and print one line of JSON each."""
    peaks = []
    for count in users:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            bundle = Path(scratch) / "bundle"
            # run_child measures best from a small process, so the bundle is written in another.
            writer = multiprocessing.get_context("spawn").Process(
                target=write_bundle, args=(bundle, count, pairs, dim)
            )
            writer.start()
            writer.join()
            figures = run_export(bundle, store or f"file:{scratch}/store")
        print(json.dumps({"users": count, "pairs_per_user": pairs, "dim": dim, **figures}))
        peaks.append(figures["peak_mib"])
    if len(peaks) > 1:
        print(json.dumps({"largest_to_smallest": round(max(peaks) / min(peaks), 3)}))


def run_export(bundle: Path, store: str) -> dict[str, Any]:
    """Export in a child process; return its peak memory in MiB, its seconds and CPU seconds."""
    command = [sys.executable, "-m", "exporter", "--version", "bench", "--json"]
    command += ["--bundle", str(bundle), "--store", store, "--grace-seconds", "0"]
    cost = run_child(command)
    report = json.loads(cost.stdout)
    rows = report["users"] + report["items"] + report["user_categories"]
    return {
        "peak_mib": round(cost.peak_mib, 1),
        "seconds": round(cost.seconds, 1),
        "cpu_seconds": round(cost.cpu_seconds, 1),
        "rows_per_second": round(rows / cost.seconds),
        "stored_bytes": report["bytes"],
    }


def write_bundle(folder: Path, users: int, pairs: int, dim: int) -> None:
    """Write a bundle whose tables were never in memory whole."""
    folder.mkdir()
    random = np.random.default_rng(_SEED)
    with pq.ParquetWriter(folder / "users.parquet", _schema("user_id", behaviours=True)) as table:
        for ids in _chunks(users):
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
        for ids in _chunks(users):
            category = np.tile(np.arange(pairs), len(ids))
            table.write_table(pa.table({"user_id": np.repeat(ids, pairs), "category_id": category}))
    items = np.arange(_ITEMS)
    pq.write_table(
        pa.table({"item_id": items, "category_id": items % 900}), folder / "items.parquet"
    )
    _write_models(folder, dim)


def _schema(*ids: str, behaviours: bool = False) -> pa.Schema:
    fields = [(name, pa.int64()) for name in ids]
    return pa.schema([*fields, ("behaviours", pa.list_(pa.int64()))] if behaviours else fields)


def _chunks(users: int) -> Iterator[npt.NDArray[np.int64]]:
    # A fixed odd multiplier scatters the ids, as real ones are.
    for start in range(0, users, _CHUNK):
        yield np.arange(start, min(start + _CHUNK, users), dtype=np.int64) * 1_000_003


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


if __name__ == "__main__":
    typer.run(main)
