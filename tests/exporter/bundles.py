"""Bundles not made by ``keep``: ONNX models of plain operators, and numpy's view of their weights.

Each model adds up terms, one an input: a scalar's row of an embedding table, the sum over a list of
such rows (row 0 is zeros, so padding adds nothing), or a float times a vector. Strings have the row
of their place among `WORDS`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

F32 = npt.NDArray[np.float32]
Id = int | str
Kind = Literal["user", "item", "user_category"]
VOCABULARY = 64
"""Rows of each embedding table; ids are taken modulo this."""
WORDS = ["", "Aachen", "Zürich", "東京", "a\0b", " ", "x" * 300]
"""Strings that models know; others are as the first, which is also the padding."""

_TYPES = {
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bool": TensorProto.BOOL,
    "str": TensorProto.STRING,
}


@dataclass(frozen=True)
class Term:
    """One input of a model and what becomes of it.

    ``width`` is the input's second dimension: an int, ``"T"`` for a symbolic one, None for rank 1.
    ``beside`` are further columns, which feed the input of ``name`` side by side with ``column``.
    """

    column: str
    dtype: str = "int64"
    width: int | str | None = None
    is_list: bool = False
    name: str | None = None
    beside: tuple[str, ...] | None = None

    @property
    def input(self) -> str:
        return self.name or self.column

    @property
    def columns(self) -> list[str]:
        return [self.column, *(self.beside or ())]

    @property
    def fed_by(self) -> str | list[str]:
        """What the manifest says of the input."""
        return self.column if self.beside is None else self.columns

    @property
    def is_row(self) -> bool:
        """Whether a row of the input is of several elements."""
        return self.is_list or self.beside is not None


@dataclass
class Recipe:
    """All that decides a bundle; change what a test is about."""

    dim: int = 8
    category_dim: int = 4
    batch: int | str = "n"
    user: list[Term] = field(
        default_factory=lambda: [Term("user_id"), Term("history", width="T", is_list=True)]
    )
    item: list[Term] = field(default_factory=lambda: [Term("item_id"), Term("price", "float32", 1)])
    user_category: list[Term] = field(
        default_factory=lambda: [
            Term("user_id"),
            Term("history", width="T", is_list=True),
            Term("category_id"),
        ]
    )
    users: Mapping[str, Any] | None = None
    items: Mapping[str, Any] | None = None
    user_categories: Mapping[str, Any] | None = None
    pad: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    seed: int = 7
    output_type: str = "float32"
    declared_width: bool = True
    folders: bool = False

    @property
    def kinds(self) -> list[Kind]:
        """The models; without terms, and with a ``category_dim`` of 0, there is none of pairs."""
        kinds: tuple[Kind, ...] = ("user", "item", "user_category")
        return [kind for kind in kinds if getattr(self, kind)]


STRING_IDS = Recipe(
    user=[Term("age")],
    item=[Term("price")],
    user_category=[Term("category_id", "str"), Term("age")],
    users={"user_id": ["u1", "a\0", "a", "東京", "x" * 128], "age": [1, 2, 3, 4, 5]},
    items={
        "item_id": pa.array(["i1", "i2", "Zürich"]).dictionary_encode(),
        "category_id": pa.array(["Aachen", None, "東京"], pa.large_string()),
        "price": [1, 2, 3],
    },
    user_categories={
        "user_id": pa.array(["a", "u1", "a", "x" * 128], pa.string_view()),
        "category_id": ["Zürich", "Aachen", "other", "東京"],
    },
    unknown={
        "user": {"age": 6},
        "item": {"price": 0, "category_id": "a\0b"},
        "user_category": {"category_id": "Aachen", "age": 2},
    },
)
"""All ids are strings, of every layout that Parquet has for them."""


@dataclass
class Built:
    """A bundle on disk and the truth about it."""

    path: Path
    recipe: Recipe
    weights: dict[tuple[Kind, str], F32]
    tables: dict[str, pa.Table]

    def manifest(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        return value

    def change_manifest(self, change: Callable[[dict[str, Any]], object]) -> None:
        value = self.manifest()
        change(value)
        (self.path / "manifest.json").write_text(json.dumps(value))

    def set_table(self, name: str, table: pa.Table, **options: Any) -> None:
        self.tables[name] = table
        write_table(self.path / f"{name}.parquet", table, folder=self.recipe.folders, **options)

    def set_column(self, name: str, column: str, values: Any) -> None:
        table = self.tables[name]
        place = table.column_names.index(column)
        self.set_table(name, table.set_column(place, column, pa.array(values)))

    def terms(self, kind: Kind) -> list[Term]:
        terms: list[Term] = getattr(self.recipe, kind)
        return terms

    def output(self, kind: Kind, row: Mapping[str, Any]) -> F32:
        """What a model gives for one row of columns, by a slow sum in numpy."""
        width = self.recipe.category_dim if kind == "user_category" else self.recipe.dim
        total = np.zeros(width, dtype=np.float64)
        for term in self.terms(kind):
            value = [row[c] for c in term.columns] if term.beside is not None else row[term.column]
            total += self._term(kind, term, value)
        return (total * self.recipe.scale).astype(np.float32)

    def _term(self, kind: Kind, term: Term, value: Any) -> npt.NDArray[np.float64]:
        weights = self.weights[kind, term.input].astype(np.float64)
        if term.dtype.startswith(("float", "bool")):
            factors = [float(v) for v in (value if term.is_row else [value])]
            vector: npt.NDArray[np.float64] = np.array(factors) @ weights[: len(factors)]
            return vector
        values = (value or []) if term.is_row else [value or 0]
        if term.is_list:
            values = values[-self.list_width(term) :]
        rows = [_row_of(term, v) for v in values]
        chosen: npt.NDArray[np.float64] = weights[rows].sum(axis=0)
        return chosen

    def list_width(self, term: Term) -> int:
        if isinstance(term.width, int):
            return term.width
        if term.column in self.recipe.pad:
            return self.recipe.pad[term.column]
        lists = self.tables["users"].column(term.column).to_pylist()
        return max(1, *(len(v or []) for v in lists))

    def user_vectors(self) -> dict[Id, F32]:
        rows = self.tables["users"].to_pylist()
        return {row["user_id"]: self.output("user", row) for row in rows}

    def item_vectors(self) -> dict[Id, F32]:
        rows = self.tables["items"].to_pylist()
        return {row["item_id"]: self.output("item", row) for row in rows}

    def pair_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        if "user_categories" in self.tables:
            rows = self.tables["user_categories"].to_pylist()
        return rows

    def pair_vectors(self) -> dict[tuple[Id, Id], F32]:
        users = {row["user_id"]: row for row in self.tables["users"].to_pylist()}
        return {
            (row["user_id"], row["category_id"]): self.output(
                "user_category", {**users[row["user_id"]], **row}
            )
            for row in self.pair_rows()
        }


def _row_of(term: Term, value: Any) -> int:
    if term.dtype == "str":
        return WORDS.index(value) if value in WORDS else 0
    return int(value) % VOCABULARY


def default_tables(users: int = 12, items: int = 20, pairs: int = 3) -> dict[str, dict[str, Any]]:
    """Small tables with ids of every kind: negative, zero, beyond 2**53; lists of every length."""
    user_ids = [-5, 0, 2**53 + 1, -(2**63), 2**63 - 1, *range(100, 95 + users)][:users]
    item_ids = [-1, 0, 2**62 + 1, *range(1000, 997 + items)][:items]
    categories = [-3, 2**40, *range(1, 7)]
    return {
        "users": {
            "user_id": user_ids,
            "history": [list(range(1, 1 + k % 6)) for k in range(users)],
        },
        "items": {
            "item_id": item_ids,
            "category_id": [None if k % 5 == 4 else categories[k % 8] for k in range(items)],
            "price": [k / 4 - 1 for k in range(items)],
        },
        "user_categories": {
            "user_id": [u for k, u in enumerate(user_ids) for _ in range(k % (pairs + 1))],
            "category_id": [
                categories[(k + j) % 8]
                for k in range(len(user_ids))
                for j in range(k % (pairs + 1))
            ],
        },
    }


def build(path: Path, recipe: Recipe | None = None) -> Built:
    """Write a bundle into the new directory ``path``."""
    recipe = recipe or Recipe()
    path.mkdir(parents=True)
    built = Built(path, recipe, _weights(recipe), {})
    tables = default_tables()
    if not recipe.user_category:
        del tables["user_categories"]
    for name in tables:
        built.set_table(name, pa.table(dict(getattr(recipe, name) or tables[name])))
    for kind in recipe.kinds:
        onnx.save(model(built, kind), str(path / f"{kind}.onnx"))
    suffix = "" if recipe.folders else ".parquet"
    manifest = {
        "format": "gkc-bundle/1",
        "name": "plain",
        "created_at": "2021-12-20T03:00:00Z",
        "dim": recipe.dim,
        "category_dim": recipe.category_dim,
        "models": {
            kind: {
                "file": f"{kind}.onnx",
                "output": "knowledge",
                "inputs": {t.input: t.fed_by for t in built.terms(kind)},
            }
            for kind in recipe.kinds
        },
        "tables": {name: f"{name}{suffix}" for name in built.tables},
        "pad": recipe.pad,
        "unknown": recipe.unknown,
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return built


def write_table(path: Path, table: pa.Table, *, folder: bool, **options: Any) -> None:
    """Write a table as one file, or as a folder of two beside a marker that is no table."""
    if not folder:
        pq.write_table(table, path, **options)
        return
    path = path.with_suffix("")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    half = len(table) // 2
    pq.write_table(table.slice(0, half), path / "part-0.parquet", **options)
    pq.write_table(table.slice(half), path / "part-1.parquet", **options)
    (path / "_SUCCESS").touch()


def _weights(recipe: Recipe) -> dict[tuple[Kind, str], F32]:
    random = np.random.default_rng(recipe.seed)
    weights: dict[tuple[Kind, str], F32] = {}
    for kind in recipe.kinds:
        width = recipe.category_dim if kind == "user_category" else recipe.dim
        terms: list[Term] = getattr(recipe, kind)
        for term in terms:
            table = random.standard_normal((VOCABULARY, width)).astype(np.float32)
            if term.is_list:
                table[0] = 0.0
            weights[kind, term.input] = table
    return weights


def model(built: Built, kind: Kind) -> onnx.ModelProto:
    """Build one model's graph."""
    recipe = built.recipe
    width = recipe.category_dim if kind == "user_category" else recipe.dim
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, npt.NDArray[Any]] = {
        "one": np.ones(1, np.int64),
        "vocabulary": np.array(VOCABULARY, np.int64),
        "scale": np.array(recipe.scale, np.float32),
    }
    inputs = []
    for term in built.terms(kind):
        shape = [recipe.batch] if term.width is None else [recipe.batch, term.width]
        inputs.append(helper.make_tensor_value_info(term.input, _TYPES[term.dtype], shape))
        table = built.weights[kind, term.input]
        factors = len(term.columns)
        constants[f"{term.input}_w"] = table[:factors] if _is_factor(term) else table
        constants[f"{term.input}_shape"] = np.array([-1, factors], np.int64)
        nodes.extend(_term_nodes(term))
    sums = [f"{t.input}_out" for t in built.terms(kind)]
    nodes.append(helper.make_node("Sum", sums, ["total"]))
    nodes.append(helper.make_node("Mul", ["total", "scale"], ["scaled"]))
    nodes.append(helper.make_node("Cast", ["scaled"], ["knowledge"], to=_TYPES[recipe.output_type]))
    shape = [recipe.batch, width if recipe.declared_width else "d"]
    output = helper.make_tensor_value_info("knowledge", _TYPES[recipe.output_type], shape)
    graph = helper.make_graph(
        nodes,
        kind,
        inputs,
        [output],
        [numpy_helper.from_array(v, name) for name, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="gkc-tests")


def _number_node(term: Term) -> onnx.NodeProto:
    """Make numbers of an input, as scikit-learn's encoders are exported where it is of strings."""
    if term.dtype != "str":
        return helper.make_node("Cast", [term.input], [f"{term.input}_i"], to=TensorProto.INT64)
    return helper.make_node(
        "LabelEncoder",
        [term.input],
        [f"{term.input}_i"],
        domain="ai.onnx.ml",
        keys_strings=WORDS,
        values_int64s=list(range(len(WORDS))),
        default_int64=0,
    )


def _is_factor(term: Term) -> bool:
    return term.dtype.startswith(("float", "bool"))


def _term_nodes(term: Term) -> list[onnx.NodeProto]:
    n = term.input
    if _is_factor(term):
        return [
            helper.make_node("Cast", [n], [f"{n}_f"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", [f"{n}_f", f"{n}_shape"], [f"{n}_c"]),
            helper.make_node("MatMul", [f"{n}_c", f"{n}_w"], [f"{n}_out"]),
        ]
    row = (
        []
        if term.is_row or term.width is None
        else [helper.make_node("Squeeze", [f"{n}_m", "one"], [f"{n}_s"])]
    )
    index = f"{n}_s" if row else f"{n}_m"
    gathered = f"{n}_g" if term.is_row else f"{n}_out"
    nodes = [
        _number_node(term),
        # Mod takes the sign of the divisor, as Python's does.
        helper.make_node("Mod", [f"{n}_i", "vocabulary"], [f"{n}_m"]),
        *row,
        helper.make_node("Gather", [f"{n}_w", index], [gathered]),
    ]
    if term.is_row:
        nodes.append(helper.make_node("ReduceSum", [gathered, "one"], [f"{n}_out"], keepdims=0))
    return nodes


def make_endless(path: Path) -> None:
    """Have a bundle's model look for its scale in a loop that never ends."""
    loaded = onnx.load(str(path))
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["goes_on_still"]),
            helper.make_node("Identity", ["scale_so_far"], ["scale_then"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("goes_on", TensorProto.BOOL, []),
            value("scale_so_far", TensorProto.FLOAT, []),
        ],
        [value("goes_on_still", TensorProto.BOOL, []), value("scale_then", TensorProto.FLOAT, [])],
    )
    loop = helper.make_node("Loop", ["", "true", "scale"], ["scale_found"], body=body)
    loaded.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    loaded.graph.node.insert(0, loop)
    (scaling,) = (node for node in loaded.graph.node if node.op_type == "Mul")
    scaling.input[1] = "scale_found"
    onnx.save(loaded, str(path))
