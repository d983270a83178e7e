"""What the inputs of models do not take is refused by column, and nothing is left in the store."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from exporter.errors import BundleError, FeatureTableError
from tests.exporter.bundles import Recipe, Term, build
from tests.exporter.conftest import Export
from tests.exporter.places import Place
from tests.exporter.refusals import column, edited, refuse


def test_a_value_that_the_input_cannot_hold(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    recipe = Recipe(item=[Term("item_id", "int32")])
    refuse(
        export,
        file_place,
        build(tmp_path / "bundle", recipe),
        FeatureTableError,
        "items.parquet, column 'item_id', row 2 (counted from 0): 4611686018427387905 is not a "
        "int32, as input 'item_id' of item.onnx takes",
    )


def test_an_element_that_the_input_cannot_hold(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    recipe = Recipe(user=[Term("history", "int32", "T", is_list=True)])
    built = build(tmp_path / "bundle", recipe)
    column("users", "history", 6, [1, 2**31])(built)
    refuse(
        export,
        file_place,
        built,
        FeatureTableError,
        "users.parquet, column 'history', row 6 (counted from 0): the list's element 2147483648",
    )


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (
            Recipe(user=[Term("user_id", width=3, is_list=True)]),
            "is 3 wide, but its column 'user_id' holds",
        ),
        (Recipe(user=[Term("history")]), "has one dimension, but its column 'history' holds lists"),
        (
            Recipe(user=[Term("user_id", width=3, beside=("user_id",))]),
            "is 3 wide, but 2 in the list of columns: user_id, user_id",
        ),
        (
            Recipe(user=[Term("user_id", width=2, beside=())]),
            "is 2 wide, but 1 in the list of columns: user_id",
        ),
        (
            Recipe(item=[Term("item_id", "float32", beside=("price",))]),
            "has one dimension, but a list of columns is to feed it: item_id, price",
        ),
    ],
)
def test_columns_whose_shape_the_input_does_not_take(
    recipe: Recipe, text: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", recipe)
    refuse(export, file_place, built, BundleError, "manifest.json: input '", ".onnx ", text)


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (
            Term("user_id", width=2, beside=("history",), name="X"),
            "column 'history': holds lists of numbers, which cannot stand beside other columns in "
            "input 'X' of user.onnx",
        ),
        (
            Term("city", "str", 2, beside=("user_id",), name="X"),
            "column 'user_id': holds numbers, but input 'X' of user.onnx takes strings: cast the",
        ),
        (
            Term("user_id", "float32", 2, beside=("city",), name="X"),
            "column 'city': holds strings, but input 'X' of user.onnx takes float32: cast the "
            "column, or give the model an input of its type, or add a column of integers and name",
        ),
        (
            Term("history", "str", "T", is_list=True),
            "column 'history': holds lists of numbers, but input 'history' of user.onnx takes str",
        ),
        (
            Term("tags", "int64", "T", is_list=True),
            "column 'tags': holds lists of strings, but input 'tags' of user.onnx takes int64",
        ),
        (
            Term("user_id", width=2, beside=("agee",), name="X"),
            "column 'agee': the file has no such column; its columns: user_id, history, city, tags",
        ),
    ],
)
def test_columns_that_hold_what_the_input_does_not_take(
    term: Term, text: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    users = {"user_id": [1], "history": [[1]], "city": ["x"], "tags": [["x"]]}
    pairs = {"user_id": [1], "category_id": [1]}
    recipe = Recipe(user=[term], users=users, user_categories=pairs)
    built = build(tmp_path / "bundle", recipe)
    refuse(export, file_place, built, FeatureTableError, f"users.parquet, {text}")


def test_string_ids_that_feed_numbers_are_told_of_before_their_row_for_unknown_ids(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    recipe = Recipe(
        item=[Term("category_id")],
        items={"item_id": [1], "category_id": ["a"]},
        user_categories={"user_id": [0], "category_id": ["a"]},
        unknown={"item": {"category_id": 0}},
    )
    text = "items.parquet, column 'category_id': holds strings, but input 'category_id' of item"
    refuse(export, file_place, build(tmp_path / "bundle", recipe), FeatureTableError, text)


def test_a_null_beside_other_columns_is_named(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    recipe = Recipe(item=[Term("item_id", "float32", 2, name="X", beside=("price",))])
    built = build(tmp_path / "bundle", recipe)
    column("items", "price", 5, None)(built)
    text = "items.parquet, column 'price', row 5 (counted from 0): is null"
    refuse(export, file_place, built, FeatureTableError, text)


def test_a_length_for_columns_side_by_side_is_refused(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    term = Term("item_id", "float32", 2, name="X", beside=("price",))
    built = build(tmp_path / "bundle", Recipe(item=[term], pad={"price": 2}))
    refuse(export, file_place, built, BundleError, "'pad.price' is no column of lists")


def test_models_that_take_what_no_column_holds(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")

    def complex_price(loaded: onnx.ModelProto) -> None:
        loaded.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16

    edited("item.onnx", complex_price)(built)
    text = "item.onnx: input 'price' takes tensor(bfloat16), which no column feeds: only numbers"
    refuse(export, file_place, built, BundleError, text)
