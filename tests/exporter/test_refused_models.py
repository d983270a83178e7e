"""Models that fail or give no vector a row are refused, and nothing is left in the store."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import helper, numpy_helper

from exporter.errors import BundleError, ModelOutputError
from exporter.sessions import Sessions
from tests.exporter.bundles import Recipe, Term, build, make_endless
from tests.exporter.conftest import Export
from tests.exporter.places import Place
from tests.exporter.refusals import column, edited, refuse


@pytest.mark.parametrize("kind", ["user", "item"])
def test_a_model_that_never_ends(
    kind: str, place: Place, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.inputs.Sessions", partial(Sessions, most_seconds=0.1))
    built = build(tmp_path / "bundle")
    make_endless(built.path / f"{kind}.onnx")
    text = f"{kind}.onnx, output 'knowledge', for {kind}s.parquet: took longer than 0.1 seconds"
    refuse(export, place, built, ModelOutputError, text)


@pytest.mark.parametrize("element_type", ["f16", "f32", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite(
    value: float, element_type: str, place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    column("items", "price", 9, value)(built)
    text = "item.onnx, output 'knowledge', for items.parquet, row 9 (counted from 0): gave "
    refuse(export, place, built, ModelOutputError, text, element_type=element_type)


@pytest.mark.parametrize(
    ("kind", "table", "column", "row"),
    [
        ("user", "users", "age", 3),
        ("item", "items", "price", 9),
        ("user_category", "user_categories", "weight", 11),
    ],
)
def test_outputs_that_do_not_stay_finite_as_halves(
    kind: str, table: str, column: str, row: int, place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(
        tmp_path / "bundle",
        Recipe(
            user=[Term("age", "float64")],
            item=[Term("price", "float32")],
            user_category=[Term("weight", "float32")],
        ),
    )
    for name, feature in (("users", "age"), ("items", "price"), ("user_categories", "weight")):
        rows = built.tables[name]
        values = np.ones(len(rows))
        if name == table:
            values[row] = 1e9
        kept = rows.drop_columns(feature) if feature in rows.column_names else rows
        built.set_table(name, kept.append_column(feature, pa.array(values)))
    text = f"{kind}.onnx, output 'knowledge', for {table}.parquet, row {row} (counted from 0): gave"
    refuse(export, place, built, ModelOutputError, text, "which is not finite as f16")
    assert export(built, place, element_type="f32").generation


def test_outputs_of_another_width(file_place: Place, export: Export, tmp_path: Path) -> None:
    """A width that follows from the data, so that nothing can be known of it when loading."""
    recipe = Recipe(item=[Term("price", "int64")], declared_width=False)
    built = build(tmp_path / "bundle", recipe)
    built.set_column("items", "price", np.full(20, 3))
    loaded = onnx.load(str(built.path / "item.onnx"))
    last = loaded.graph.node[-1]
    last.output[0] = "whole"
    loaded.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["price"], ["end"], keepdims=1),
            helper.make_node("Slice", ["whole", "start", "end", "one"], ["knowledge"]),
        ]
    )
    loaded.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), "start"))
    onnx.save(loaded, str(built.path / "item.onnx"))
    text = "item.onnx, output 'knowledge', for items.parquet, row "
    refuse(export, file_place, built, ModelOutputError, text, "gave shape (20, 3) for 20 rows")


def test_outputs_that_are_integers(file_place: Place, export: Export, tmp_path: Path) -> None:
    built = build(tmp_path / "bundle", Recipe(output_type="int64"))
    refuse(export, file_place, built, BundleError, "output 'knowledge' is tensor(int64)")


@pytest.mark.parametrize(
    ("price", "row"),
    [
        (lambda row: np.where(row == 417, 1000, 3), "417"),
        (lambda row: np.where(row == 0, 1000, 3), "0"),
        (lambda row: row + 1000, r"\d+"),
        (lambda row: np.full_like(row, 1000), r"\d+"),
    ],
)
def test_the_row_at_which_a_model_fails_is_found(
    price: Callable[[Any], Any], row: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    """A Gather without the Mod before it fails on ids beyond its table."""
    recipe = Recipe(
        items={
            "item_id": np.arange(600),
            "category_id": np.zeros(600, np.int64),
            "price": price(np.arange(600)),
        },
        item=[Term("price", "int64")],
    )
    built = build(tmp_path / "bundle", recipe)
    graph = onnx.load(str(built.path / "item.onnx"))
    for node in graph.graph.node:
        if node.op_type == "Gather":
            node.input[1] = "price"
    onnx.save(graph, str(built.path / "item.onnx"))
    where = rf"item.onnx, output 'knowledge', for items.parquet, row {row} \(counted from 0\): "
    refuse(export, file_place, built, ModelOutputError, "out of data bounds")
    with pytest.raises(ModelOutputError, match=where):
        export(built, file_place)


def test_a_row_is_to_blame_where_no_row_passes_and_each_fails_in_its_own_way(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    """Every id is beyond a table, that of zeros, too: the number of rows has no part in it."""
    built = build(tmp_path / "bundle", Recipe(item=[Term("item_id")]))

    def beyond(loaded: onnx.ModelProto) -> None:
        far = numpy_helper.from_array(np.array(5000, np.int64), "far")
        loaded.graph.initializer.append(far)
        (gather,) = (node for node in loaded.graph.node if node.op_type == "Gather")
        before = gather.input[1]
        gather.input[1] = "moved"
        place = list(loaded.graph.node).index(gather)
        loaded.graph.node.insert(place, helper.make_node("Add", [before, "far"], ["moved"]))

    edited("item.onnx", beyond)(built)
    text = "item.onnx, output 'knowledge', for items.parquet, row "
    refuse(export, file_place, built, ModelOutputError, text, "out of data bounds, idx=5")


def test_a_default_that_is_not_finite(file_place: Place, export: Export, tmp_path: Path) -> None:
    unknown = {"item": {"item_id": 0, "price": 1e30}}
    built = build(tmp_path / "bundle", Recipe(unknown=unknown))
    text = "item.onnx, output 'knowledge', for manifest.json, 'unknown.item': "
    refuse(export, file_place, built, ModelOutputError, text)


def newer_opset(loaded: onnx.ModelProto) -> None:
    loaded.opset_import[0].version = 99


def newer_ir(loaded: onnx.ModelProto) -> None:
    loaded.ir_version = 99


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (newer_opset, "item.onnx: is of opset 99, and onnxruntime 1."),
        (newer_opset, ": export it with opset_version="),
        (newer_ir, "item.onnx: is of ONNX IR version 99, and onnxruntime 1."),
        (lambda m: m.graph.node.pop(0), "item.onnx: is no model that onnxruntime can load: "),
    ],
)
def test_models_that_cannot_be_loaded_are_explained_without_onnxruntimes_own_places(
    change: Callable[[onnx.ModelProto], object],
    text: str,
    file_place: Place,
    export: Export,
    tmp_path: Path,
) -> None:
    built = build(tmp_path / "bundle")
    edited("item.onnx", change)(built)
    refuse(export, file_place, built, BundleError, text)
    with pytest.raises(BundleError) as caught:
        export(built, file_place)
    assert not re.search(r"ONNXRuntimeError|onnxruntime_src|::|" + str(tmp_path), str(caught.value))


Edit = Callable[[onnx.ModelProto], object]


def ending(op: str, constant: Any = None, *, first: bool = False, **attributes: Any) -> Edit:
    """Let one more node make the output, perhaps with a constant after or before its input."""

    def change(loaded: onnx.ModelProto) -> None:
        loaded.graph.node[-1].output[0] = "whole"
        inputs = ["whole"]
        if constant is not None:
            loaded.graph.initializer.append(numpy_helper.from_array(np.array(constant), "constant"))
            inputs = ["constant", "whole"] if first else ["whole", "constant"]
        loaded.graph.node.append(helper.make_node(op, inputs, ["knowledge"], **attributes))

    return change


def reshaped_before(rows: int) -> Edit:
    """Reshape all in the middle to as many rows as the model was exported with."""

    def change(loaded: onnx.ModelProto) -> None:
        for node in loaded.graph.node:
            if node.op_type == "Sum":
                node.output[0] = "before"
        shape = numpy_helper.from_array(np.array([rows, 8], np.int64), "shape")
        loaded.graph.initializer.append(shape)
        place = [node.op_type for node in loaded.graph.node].index("Sum") + 1
        loaded.graph.node.insert(place, helper.make_node("Reshape", ["before", "shape"], ["total"]))

    return change


def taken_in_sevens(loaded: onnx.ModelProto) -> None:
    """Reshape to sevens of rows and back again."""
    loaded.graph.node[-1].output[0] = "whole"
    for name, shape in (("sevens", [-1, 56]), ("rows", [-1, 8])):
        loaded.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
    loaded.graph.node.append(helper.make_node("Reshape", ["whole", "sevens"], ["folded"]))
    loaded.graph.node.append(helper.make_node("Reshape", ["folded", "rows"], ["knowledge"]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (ending("Reshape", [1, -1]), "gave shape (1, 160) for 20 rows, not (20, 8)"),
        *(
            (reshaped_before(rows), f"runs on {rows} rows at a time only")
            for rows in (3, 48, 96, 300, 2048, 4096)
        ),
        (reshaped_before(1), "runs on one row at a time only"),
        (reshaped_before(77), "requested shape:{77,8}; all rows fail alike; it seems made"),
        (taken_in_sevens, "it runs on 7 or 14 rows at a time, but not on 20; it seems made for a"),
        (ending("Add", np.zeros((5, 8), np.float32)), "runs on 5 rows at a time only"),
        (ending("Expand", [7, 8]), "runs on 7 rows at a time only"),
        (
            ending("MatMul", np.eye(60, dtype=np.float32), first=True),
            "runs on 60 rows at a time only",
        ),
    ],
)
def test_a_model_for_a_fixed_number_of_rows_is_not_blamed_on_a_row(
    change: Edit, text: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", Recipe(declared_width=False))
    edited("item.onnx", change)(built)
    where = "item.onnx, output 'knowledge', for items.parquet: "
    refuse(export, file_place, built, ModelOutputError, where, text, "dynamic batch dimension")


def test_a_batch_that_the_inputs_declare_and_the_model_does_not_take_is_not_blamed_on_a_row(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", Recipe(batch=4))
    edited("item.onnx", reshaped_before(1))(built)
    where = "item.onnx, output 'knowledge', for items.parquet: "
    text = "all rows fail alike in batches of 4, which its inputs declare; it seems made for a"
    refuse(export, file_place, built, ModelOutputError, where, text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            ending("Transpose", perm=[1, 0]),
            "gave shape (8, 20) for 20 rows, not (20, 8), a vector for each row; it is transposed",
        ),
        (ending("Tile", [2, 1]), "gave shape (40, 8) for 20 rows, not (20, 8), a vector for each"),
        (ending("Tile", [2, 1]), "it is 2 vectors for each row: give one"),
        (
            ending("ReduceMean", axes=[0], keepdims=1),
            "gave shape (1, 8) for 20 rows, not (20, 8), a vector for each row; it is one vector",
        ),
    ],
)
def test_an_output_of_another_number_of_rows_is_told_as_what_it_is(
    change: Edit, text: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", Recipe(declared_width=False))
    edited("item.onnx", change)(built)
    where = "item.onnx, output 'knowledge', for items.parquet: "
    refuse(export, file_place, built, ModelOutputError, where, text)
