"""Bundles of plain ONNX operators, not made by ``keep``, and what must be answered from them.

The truth is NumPy on the models' weights in double precision; nothing of ours computes it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

F64 = npt.NDArray[np.float64]
VOCABULARY = 50
"""Rows of every embedding table in the models; row 0 is zeros, for padding."""


@dataclass(frozen=True)
class Truth:
    """What the models of a bundle put out, by id; None for a part without a default."""

    dim: int
    category_dim: int
    users: dict[int, F64]
    items: dict[int, F64]
    categories: dict[int, int | None]
    pairs: dict[tuple[int, int], F64]
    default_user: F64 | None = None
    default_item: F64 | None = None
    default_pair: F64 | None = None
    default_category: int | None = None


@dataclass(frozen=True)
class Recipe:
    """How a bundle differs from the plainest one."""

    name: str
    dim: int = 8
    category_dim: int = 5
    history_length: int | None = None
    """Second dimension of the list input; None leaves it symbolic."""
    pad: int | None = None
    unknown: bool = True
    as_folder: bool = False
    ids: tuple[int, ...] = tuple(range(1, 41))
    scale: float = 1.0
    salt: float = 0.0
    """Added to every output, so that two exports of one recipe differ."""
    users: int | None = None
    """How many users; their ids are 1 to that. None takes ``ids``."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More keys of the manifest."""


RECIPES = (
    Recipe("plain"),
    Recipe(
        "fixed-lists-large-ids",
        dim=16,
        category_dim=3,
        history_length=4,
        unknown=False,
        ids=(-1, 0, 1, -(2**63), 2**63 - 1, 2**53 + 1, -(2**53) - 1, 7, 8, 9, 10, 11),
        scale=30.0,
    ),
    Recipe("folder-padded", dim=3, category_dim=7, pad=6, as_folder=True, scale=1e-3),
)


def write_bundle(folder: Path, recipe: Recipe) -> Truth:
    """Write the bundle of a recipe into ``folder`` and return what it must answer."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(sum(recipe.name.encode()))
    user_ids = list(range(1, recipe.users + 1)) if recipe.users else list(recipe.ids)
    histories = [_history(rng) for _ in user_ids]
    ages = rng.normal(size=len(user_ids)).astype(np.float32)
    prices = rng.normal(size=len(recipe.ids))
    kinds = rng.integers(1, VOCABULARY, len(recipe.ids)).astype(np.int32)
    own = [None if k % 5 == 4 else int(k % 7) - 3 for k in range(len(recipe.ids))]
    pairs = [(u, c) for u in user_ids for c in range(-3, 4) if (u + c) % 3]

    tables = {name: _table(rng, recipe, width) for name, width in _widths(recipe).items()}
    _save_models(folder, recipe, tables)
    _save_tables(folder, recipe, user_ids, ages, histories, prices, kinds, own, pairs)
    _save_manifest(folder, recipe)

    lengths = [len(h) for h in histories]
    keep = recipe.history_length or recipe.pad or max([*lengths, 1])
    summed = {
        name: {
            u: tables[name][np.array(h[-keep:], dtype=np.int64)].sum(axis=0)
            for u, h in zip(user_ids, histories, strict=True)
        }
        for name in ("history", "pair_history")
    }
    unknown = recipe.unknown
    return Truth(
        dim=recipe.dim,
        category_dim=recipe.category_dim,
        users={
            u: float(a) * tables["age"][1] + summed["history"][u] + recipe.salt
            for u, a in zip(user_ids, ages, strict=True)
        },
        items={
            i: float(np.float32(p)) * tables["price"][1] + tables["kind"][k] + recipe.salt
            for i, p, k in zip(recipe.ids, prices, kinds, strict=True)
        },
        categories=dict(zip(recipe.ids, own, strict=True)),
        pairs={
            (u, c): tables["category"][c % VOCABULARY] + summed["pair_history"][u] + recipe.salt
            for u, c in pairs
        },
        default_user=0.5 * tables["age"][1] + recipe.salt if unknown else None,
        default_item=0.25 * tables["price"][1] + tables["kind"][2] + recipe.salt
        if unknown
        else None,
        default_pair=tables["category"][3] + tables["pair_history"][4] + recipe.salt
        if unknown
        else None,
        default_category=3 if unknown else None,
    )


def _widths(recipe: Recipe) -> dict[str, int]:
    """Return the embedding tables of the three models and their widths."""
    return {
        "age": recipe.dim,
        "history": recipe.dim,
        "price": recipe.dim,
        "kind": recipe.dim,
        "category": recipe.category_dim,
        "pair_history": recipe.category_dim,
    }


def _history(rng: np.random.Generator) -> list[int]:
    return [int(k) for k in rng.integers(1, VOCABULARY, rng.integers(0, 9))]


def _table(rng: np.random.Generator, recipe: Recipe, width: int) -> npt.NDArray[np.float32]:
    table = (rng.normal(size=(VOCABULARY, width)) * recipe.scale).astype(np.float32)
    table[0] = 0
    return table


def _save_models(folder: Path, recipe: Recipe, tables: dict[str, npt.NDArray[np.float32]]) -> None:
    salt = np.float32(recipe.salt)
    length = recipe.history_length or "T"
    history = helper.make_tensor_value_info("past", TensorProto.INT64, ["n", length])
    weights = {name: numpy_helper.from_array(table, name) for name, table in tables.items()}
    shared = [
        numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
        numpy_helper.from_array(np.array([VOCABULARY], dtype=np.int64), "vocabulary"),
        numpy_helper.from_array(np.array(salt, dtype=np.float32), "salt"),
    ]
    age_row = numpy_helper.from_array(tables["age"][1:2], "age_row")
    price_row = numpy_helper.from_array(tables["price"][1:2], "price_row")
    _save_model(
        folder / "user.onnx",
        recipe.dim,
        inputs=[helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1]), history],
        weights=[age_row, weights["history"], *shared],
        nodes=[
            helper.make_node("MatMul", ["age", "age_row"], ["a"]),
            helper.make_node("Gather", ["history", "past"], ["g"]),
            helper.make_node("ReduceSum", ["g", "axis"], ["b"], keepdims=0),
        ],
    )
    _save_model(
        folder / "item.onnx",
        recipe.dim,
        inputs=[
            helper.make_tensor_value_info("price", TensorProto.DOUBLE, ["n", 1]),
            helper.make_tensor_value_info("kind", TensorProto.INT32, ["n"]),
        ],
        weights=[price_row, weights["kind"], *shared],
        nodes=[
            helper.make_node("Cast", ["price"], ["p"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["p", "price_row"], ["a"]),
            helper.make_node("Gather", ["kind_table", "kind"], ["b"]),
        ],
        rename={"kind": "kind_table"},
    )
    _save_model(
        folder / "user_category.onnx",
        recipe.category_dim,
        inputs=[helper.make_tensor_value_info("category_id", TensorProto.INT64, ["n"]), history],
        weights=[weights["category"], weights["pair_history"], *shared],
        nodes=[
            helper.make_node("Mod", ["category_id", "vocabulary"], ["row"]),
            helper.make_node("Gather", ["category", "row"], ["a"]),
            helper.make_node("Gather", ["pair_history", "past"], ["g"]),
            helper.make_node("ReduceSum", ["g", "axis"], ["b"], keepdims=0),
        ],
    )


def _save_model(
    path: Path,
    width: int,
    *,
    inputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    nodes: list[onnx.NodeProto],
    rename: dict[str, str] | None = None,
) -> None:
    """Save a graph that adds ``a``, ``b`` and the salt into the output ``vectors``."""
    for weight in weights:
        weight.name = (rename or {}).get(weight.name, weight.name)
    ends = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Add", ["sum", "salt"], ["vectors"]),
    ]
    output = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", width])
    graph = helper.make_graph([*nodes, *ends], path.stem, inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _save_tables(
    folder: Path,
    recipe: Recipe,
    user_ids: list[int],
    ages: npt.NDArray[np.float32],
    histories: list[list[int]],
    prices: F64,
    kinds: npt.NDArray[np.int32],
    own: list[int | None],
    pairs: list[tuple[int, int]],
) -> None:
    users = {
        "user_id": pa.array(user_ids, pa.int64()),
        "age": pa.array(ages, pa.float32()),
        "past": pa.array(histories, pa.list_(pa.int32())),
    }
    items = {
        "item_id": pa.array(list(recipe.ids), pa.int64()),
        "price": pa.array(prices.astype(np.float32), pa.float32()),
        "kind": pa.array(kinds, pa.int32()),
        "category_id": pa.array(own, pa.int64()),
    }
    by_pair = {
        "user_id": pa.array([u for u, _ in pairs], pa.int64()),
        "category_id": pa.array([c for _, c in pairs], pa.int16()),
    }
    # Pairs are not grouped by user: an exporter must not count on it.
    shuffled = pa.table(by_pair).take(np.random.default_rng(5).permutation(len(pairs)))
    for name, table in (
        ("users", pa.table(users)),
        ("items", pa.table(items)),
        ("pairs", shuffled),
    ):
        _save_table(folder, name, table, in_parts=recipe.as_folder)


def _save_table(folder: Path, name: str, table: pa.Table, *, in_parts: bool) -> None:
    if not in_parts:
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=5000)
        return
    (folder / name).mkdir()
    half = len(table) // 2
    pq.write_table(table.slice(0, half), folder / name / "part-0.parquet")
    pq.write_table(table.slice(half), folder / name / "part-1.parquet")


def _save_manifest(folder: Path, recipe: Recipe) -> None:
    ending = "" if recipe.as_folder else ".parquet"
    manifest: dict[str, Any] = {
        "format": "gkc-bundle/1",
        "name": recipe.name,
        "created_at": "2021-12-20T03:00:00Z",
        "dim": recipe.dim,
        "category_dim": recipe.category_dim,
        "models": {
            "user": _model("user.onnx", age="age", past="past"),
            "item": _model("item.onnx", price="price", kind="kind"),
            "user_category": _model("user_category.onnx", category_id="category_id", past="past"),
        },
        "tables": {
            "users": f"users{ending}",
            "items": f"items{ending}",
            "user_categories": f"pairs{ending}",
        },
        **recipe.extra,
    }
    if recipe.pad is not None:
        manifest["pad"] = {"past": recipe.pad}
    if recipe.unknown:
        manifest["unknown"] = {
            "user": {"age": 0.5, "past": []},
            "item": {"price": 0.25, "kind": 2, "category_id": 3},
            "user_category": {"category_id": 3, "past": [4]},
        }
    if not recipe.as_folder:
        files = [p for p in folder.iterdir() if p.is_file()]
        manifest["sha256"] = {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)
        }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))


def _model(file: str, **inputs: str) -> dict[str, Any]:
    return {"file": file, "output": "vectors", "inputs": inputs}
