"""Bundles whose models only look rows up in tables: every machine puts out the same bits."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from tests.acceptance.bundles import Truth

F32 = npt.NDArray[np.float32]

EXTREME_IDS = (-(2**63), 2**63 - 1, 0, -1, 1, 2**53 + 1, -(2**53) - 1, 2**32)
_rng = random.Random("ids")
USERS = (*EXTREME_IDS, *range(1000, 2000), *(_rng.getrandbits(63) - 2**62 for _ in range(500)))
ITEMS = (*EXTREME_IDS, *range(-1500, -2), *(_rng.getrandbits(63) - 2**62 for _ in range(1700)))
CATEGORIES = (*EXTREME_IDS, *range(-300, -200), 5, 50, 500, 5000)
UNKNOWN_IDS = (2, -(2**63) + 1, 2**63 - 2, *range(2000, 2030))
"""Neither users nor items nor categories."""

PAIRS = [
    (user, category)
    for k, user in enumerate(USERS)
    for category in CATEGORIES[: (0, 1, k % 40, 3)[k % 4] if k else len(CATEGORIES)]
]
"""Users with no pair, with one, and with many."""

TABLES: tuple[tuple[str, str, str, dict[str, Sequence[int | None]]], ...] = (
    ("user", "users", "u_row", {"user_id": USERS}),
    (
        *("item", "items", "i_row"),
        {
            "item_id": ITEMS,
            "category_id": [None if k % 5 == 4 else CATEGORIES[k % 23] for k in range(len(ITEMS))],
        },
    ),
    (
        *("user_category", "user_categories", "p_row"),
        {
            "user_id": [user for user, _ in PAIRS],
            "category_id": [category for _, category in PAIRS],
        },
    ),
)
"""Model, its table, the column that feeds it, and the table's keys."""

_SMALL = (0.0, -0.0, 2.0**-24, -(2.0**-24), 2.0**-25, -3 * 2.0**-25, 2.0**-14 - 2.0**-24, 1e-20)
"""Zeros, subnormal halves, ties between them, and what underflows in halves and in products."""
_LARGE = (65504.0, -65504.0, 65519.0, 2049.0, -2051.0)
"""The largest halves, what rounds to one, and ties; their products overflow halves."""

_TIES = (127.0, 0.5, -1.5, 2.5, 126.5)
"""A vector whose int8 scale is 1, so that its elements lie halfway between integers."""


@dataclass(frozen=True)
class Recipe:
    """How a bundle differs from the others."""

    name: str
    dim: int
    category_dim: int
    highest_exponent: int
    """Vectors have about this power of two and lower ones."""
    specials: tuple[float, ...] = _SMALL
    unknown: dict[str, Any] = field(default_factory=dict)
    id_of: Callable[[int], Any] = int
    """How ids are written; here, they are numbers."""


RECIPES = (
    Recipe(
        *("all", 13, 5, 14),
        specials=_SMALL + _LARGE,
        unknown={
            "user": {"u_row": 0},
            "item": {"i_row": 0, "category_id": CATEGORIES[9]},
            "user_category": {"p_row": 0},
        },
    ),
    Recipe("some", 13, 5, 6, unknown={"item": {"i_row": 0}, "user_category": {"p_row": 0}}),
    Recipe("none", 13, 5, 6),
    Recipe(
        *("aligned", 64, 24, 6),
        unknown={"user": {"u_row": 0}, "item": {"i_row": 0, "category_id": UNKNOWN_IDS[0]}},
    ),
)


def truth_of(recipe: Recipe) -> Truth:
    """Return what the models of a bundle put out, by id."""
    users, items, pairs = (
        _vectors(recipe, seed, len(next(iter(keys.values()))) + 1, _width(recipe, kind))
        for seed, (kind, *_, keys) in enumerate(TABLES)
    )
    own = dict(zip(ITEMS, TABLES[1][3]["category_id"], strict=True))
    known = recipe.unknown
    return Truth(
        dim=recipe.dim,
        category_dim=recipe.category_dim,
        users=dict(zip(USERS, users[1:].astype(np.float64), strict=True)),
        items=dict(zip(ITEMS, items[1:].astype(np.float64), strict=True)),
        categories=own,
        pairs=dict(zip(PAIRS, pairs[1:].astype(np.float64), strict=True)),
        default_user=users[0].astype(np.float64) if "user" in known else None,
        default_item=items[0].astype(np.float64) if "item" in known else None,
        default_pair=pairs[0].astype(np.float64) if "user_category" in known else None,
        default_category=known.get("item", {}).get("category_id"),
    )


def write_bundle(folder: Path, recipe: Recipe) -> None:
    """Write a bundle; row k + 1 of a model's vectors is that of the k-th id, row 0 the default."""
    folder.mkdir(parents=True)
    manifest: dict[str, Any] = {
        "format": "gkc-bundle/1",
        "name": recipe.name,
        "created_at": "2021-12-20T03:00:00Z",
        "dim": recipe.dim,
        "category_dim": recipe.category_dim,
        "models": {},
        "tables": {},
        "unknown": _unknown(recipe),
    }
    for seed, (kind, table, row, keys) in enumerate(TABLES):
        n = len(next(iter(keys.values())))
        vectors = _vectors(recipe, seed, n + 1, _width(recipe, kind))
        _save_model(folder / f"{kind}.onnx", row, vectors)
        _save_table(folder / f"{table}.parquet", row, n, _written(keys, recipe))
        model = {"file": f"{kind}.onnx", "output": "vectors", "inputs": {row: row}}
        manifest["models"][kind] = model
        manifest["tables"][table] = f"{table}.parquet"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _unknown(recipe: Recipe) -> dict[str, Any]:
    """Return the rows of what was not exported, with the item's category as ids are written."""
    rows = {kind: dict(row) for kind, row in recipe.unknown.items()}
    for row in rows.values():
        if "category_id" in row:
            row["category_id"] = recipe.id_of(row["category_id"])
    return rows


def _written(keys: dict[str, Sequence[int | None]], recipe: Recipe) -> dict[str, pa.Array]:
    return {
        name: pa.array([None if k is None else recipe.id_of(k) for k in ids])
        for name, ids in keys.items()
    }


def _width(recipe: Recipe, kind: str) -> int:
    return recipe.category_dim if kind == "user_category" else recipe.dim


def _vectors(recipe: Recipe, seed: int, n: int, width: int) -> F32:
    """Make vectors from raw random bits, whose stream NumPy keeps: exponents differ by row."""
    bits = np.random.PCG64(seed).random_raw((2, n, width))
    of_row = bits[1, :, :1]
    exponent = recipe.highest_exponent - (of_row % 20).astype(np.int64) - bits[0] % 8
    mantissa = (1 + (bits[0] >> 40) * 2.0**-24) * np.where(bits[0] & 8, 1, -1)
    vectors = np.ldexp(mantissa, exponent.astype(np.int32))
    is_special = (of_row >> 8) % 4 == 0
    special = np.array(recipe.specials)[bits[1] % len(recipe.specials)]
    vectors = np.where(is_special & (bits[1] >> 16) % 4 != 0, special, vectors)
    vectors[1::97] = -0.0  # whole vectors of zeros
    vectors[2::97] = np.resize(_TIES, width)
    single: F32 = vectors.astype(np.float32)
    return single


def _save_model(path: Path, row: str, vectors: F32) -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", row], ["vectors"])],
        path.stem,
        [helper.make_tensor_value_info(row, TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", vectors.shape[1]])],
        [numpy_helper.from_array(vectors, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def _save_table(path: Path, row: str, n: int, keys: dict[str, pa.Array]) -> None:
    order = list(range(n))
    random.Random(n).shuffle(order)  # nothing may count on the order of a table
    table = pa.table({**keys, row: pa.array(range(1, n + 1), pa.int64())})
    pq.write_table(table.take(order), path, row_group_size=1000)
