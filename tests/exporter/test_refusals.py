"""Each refusal of the bundle: its message names file, column and row, and nothing is left."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import helper, numpy_helper

from exporter.errors import BundleError, FeatureTableError, ModelOutputError
from gkc.errors import GkcError
from tests.exporter.bundles import Built, Recipe, Term, build
from tests.exporter.conftest import Export
from tests.exporter.places import Place

Change = Callable[[Built], object]


def refuse(
    export: Export,
    place: Place,
    built: Built,
    error: type[GkcError],
    *needed: str,
    **options: Any,
) -> None:
    """Export, expect the error, each needed text in its message, and an empty store."""
    with pytest.raises(error) as caught:
        export(built, place, **options)
    message = str(caught.value)
    assert "\n" not in message
    for text in needed:
        assert text in message, message
    assert place.data() == {}
    assert place.catalogue_is_empty()


def manifest(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda built: built.change_manifest(change)


def outside_by_symlink(built: Built) -> None:
    target = built.path.parent / "elsewhere.parquet"
    (built.path / "users.parquet").rename(target)
    (built.path / "users.parquet").symlink_to(target)


def outside_by_symlink_in_folder(built: Built) -> None:
    folder = built.path / "users"
    folder.mkdir()
    target = built.path.parent / "elsewhere.parquet"
    (built.path / "users.parquet").rename(target)
    (folder / "part.parquet").symlink_to(target)
    built.change_manifest(lambda m: m["tables"].update(users="users"))


def empty_folder(built: Built) -> None:
    (built.path / "users").mkdir()
    built.change_manifest(lambda m: m["tables"].update(users="users"))


def wrong_digest_in_folder(built: Built) -> None:
    folder = built.path / "users"
    folder.mkdir()
    (built.path / "users.parquet").rename(folder / "part-0.parquet")
    built.change_manifest(
        lambda m: (
            m["tables"].update(users="users"),
            m.update(sha256={"users/part-0.parquet": BAD}),
        )
    )


BAD = "0" * 64

MANIFEST_FAULTS: dict[str, tuple[Change, str]] = {
    "no manifest": (lambda b: (b.path / "manifest.json").unlink(), "is not there, so that"),
    "not JSON": (lambda b: (b.path / "manifest.json").write_text("{"), "is not JSON"),
    "not an object": (lambda b: (b.path / "manifest.json").write_text("[]"), "a JSON object"),
    "another format": (manifest(lambda m: m.update(format="gkc-bundle/2")), '"gkc-bundle/2"'),
    "no name": (manifest(lambda m: m.pop("name")), "'name'"),
    "created_at a number": (manifest(lambda m: m.update(created_at=3)), "'created_at'"),
    "no dim": (manifest(lambda m: m.pop("dim")), "'dim'"),
    "dim zero": (manifest(lambda m: m.update(dim=0)), "'dim'"),
    "dim true": (manifest(lambda m: m.update(dim=True)), "'dim'"),
    "category_dim a text": (manifest(lambda m: m.update(category_dim="4")), "'category_dim'"),
    "tasks without dim": (manifest(lambda m: m.update(tasks=[{"name": "x"}])), "'tasks.0.dim'"),
    "no models": (manifest(lambda m: m.pop("models")), "'models'"),
    "no item model": (manifest(lambda m: m["models"].pop("item")), "'models.item'"),
    "another model": (manifest(lambda m: m["models"].update(shop={})), "'models.shop'"),
    "a model is a text": (manifest(lambda m: m["models"].update(user="x")), "'models.user'"),
    "no inputs": (manifest(lambda m: m["models"]["user"].pop("inputs")), "'models.user.inputs'"),
    "a column is a number": (
        manifest(lambda m: m["models"]["user"]["inputs"].update(user_id=1)),
        "'models.user.inputs.user_id'",
    ),
    "no output": (manifest(lambda m: m["models"]["item"].pop("output")), "'models.item.output'"),
    "no tables": (manifest(lambda m: m.update(tables=[])), "'tables'"),
    "no users": (manifest(lambda m: m["tables"].pop("users")), "'tables.users'"),
    "no such model file": (
        manifest(lambda m: m["models"]["item"].update(file="gone.onnx")),
        "gone.onnx: is not in the bundle",
    ),
    "no such table": (
        manifest(lambda m: m["tables"].update(items="gone.parquet")),
        "gone.parquet: is not in the bundle",
    ),
    "absolute path": (
        manifest(lambda m: m["tables"].update(items="/etc/passwd")),
        "'/etc/passwd', which is no path inside the bundle",
    ),
    "path with ..": (
        manifest(lambda m: m["models"]["user"].update(file="../user.onnx")),
        "'../user.onnx', which is no path inside the bundle",
    ),
    "symlink that leads outside": (outside_by_symlink, "leads outside the bundle"),
    "symlink in a folder": (outside_by_symlink_in_folder, "leads outside the bundle"),
    "folder without tables": (empty_folder, "users: the folder holds no Parquet file"),
    "pad zero": (manifest(lambda m: m.update(pad={"history": 0})), "'pad.history'"),
    "pad without end": (manifest(lambda m: m.update(pad={"history": 10**10})), "10,000,000,000"),
    "pad of no column": (
        manifest(lambda m: m.update(pad={"histroy": 5})),
        "'pad.histroy' is no column that a model reads; did you mean 'history'?",
    ),
    "pad of single numbers": (
        manifest(lambda m: m.update(pad={"history": 5, "price": 5})),
        "'pad.price' is no column of lists",
    ),
    "pad a list": (manifest(lambda m: m.update(pad=[])), "'pad'"),
    "unknown of no model": (manifest(lambda m: m.update(unknown={"shop": {}})), "'unknown.shop'"),
    "unknown a list": (manifest(lambda m: m.update(unknown={"user": []})), "'unknown.user'"),
    "unknown incomplete": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 0}})),
        "'unknown.user' lacks the column 'history'",
    ),
    "unknown of another column": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 0, "history": [], "histroy": 1}})),
        "'unknown.user.histroy' feeds no input of user.onnx; did you mean 'history'?",
    ),
    "unknown a text": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": "x", "history": []}})),
        "gives 'user_id' the value 'x', which does not fit input 'user_id' of user.onnx",
    ),
    "unknown list holds null": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 1, "history": [None]}})),
        "'unknown.user.history.0'",
    ),
    "unknown list for a number": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": [1], "history": []}})),
        "gives 'user_id' the value [1]",
    ),
    "unknown number for a list": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 1, "history": 3}})),
        "gives 'history' the value 3",
    ),
    "unknown beyond the input": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 2**70, "history": []}})),
        "gives 'user_id' the value 1180591620717411303424",
    ),
    "unknown a fraction": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 1.5, "history": []}})),
        "gives 'user_id' the value 1.5",
    ),
    "unknown list of texts": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 1, "history": [1, "x"]}})),
        "gives 'history' the value [1, 'x'], which does not fit input 'history' of user.onnx",
    ),
    "unknown category a text": (
        manifest(
            lambda m: m.update(unknown={"item": {"item_id": 0, "price": 0, "category_id": "x"}})
        ),
        "'unknown.item.category_id' is 'x', but ids are whole numbers",
    ),
    "unknown category a fraction": (
        manifest(
            lambda m: m.update(unknown={"item": {"item_id": 0, "price": 0, "category_id": 1.5}})
        ),
        "'unknown.item.category_id' is 1.5, but ids are whole numbers",
    ),
    "sha256 of another file": (
        manifest(lambda m: m.update(sha256={"item.onnx": BAD})),
        "item.onnx: has the SHA-256",
    ),
    "sha256 in a folder": (wrong_digest_in_folder, "users/part-0.parquet: has the SHA-256"),
    "sha256 no digest": (manifest(lambda m: m.update(sha256={"item.onnx": "x"})), "item.onnx"),
    "sha256 of no file": (
        manifest(lambda m: m.update(sha256={"gone": BAD})),
        "gone: is not in the bundle",
    ),
    "model takes another input": (
        manifest(lambda m: m["models"]["user"]["inputs"].pop("history")),
        "user.onnx: nothing feeds its input 'history'",
    ),
    "model lacks the input": (
        manifest(lambda m: m["models"]["user"]["inputs"].update(age="user_id")),
        "user.onnx: the manifest feeds 'age', which is no input",
    ),
    "model lacks the output": (
        manifest(lambda m: m["models"]["user"].update(output="gone")),
        "user.onnx: has no output 'gone'; its outputs: knowledge",
    ),
    "output declared of another width": (
        manifest(lambda m: m.update(dim=9)),
        "user.onnx: output 'knowledge' has shape ['n', 8], not the manifest's width 9",
    ),
    "no ONNX": (
        lambda b: (b.path / "item.onnx").write_bytes(b"no model"),
        "item.onnx: is no model that onnxruntime can load",
    ),
}


@pytest.mark.parametrize("fault", MANIFEST_FAULTS)
def test_faults_of_the_manifest(
    fault: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    change, text = MANIFEST_FAULTS[fault]
    change(built)
    refuse(export, file_place, built, BundleError, text)


def column(name: str, column: str, row: int, value: Any) -> Change:
    """Set one value of one column."""

    def change(built: Built) -> None:
        values = built.tables[name].column(column).to_pylist()
        values[row] = value
        built.set_column(name, column, values)

    return change


def drop(name: str, column: str) -> Change:
    return lambda built: built.set_table(name, built.tables[name].drop_columns(column))


def append(name: str, **row: Any) -> Change:
    def change(built: Built) -> None:
        table = built.tables[name]
        extra = pa.table({c: pa.array([row[c]], table.field(c).type) for c in table.column_names})
        built.set_table(name, pa.concat_tables([table, extra]))

    return change


TABLE_FAULTS: dict[str, tuple[Change, str]] = {
    "not Parquet": (
        lambda b: (b.path / "users.parquet").write_bytes(b"no table"),
        "users.parquet: is no readable Parquet file",
    ),
    "no key": (drop("users", "user_id"), "users.parquet, column 'user_id': the file has no such"),
    "no item key": (drop("items", "item_id"), "items.parquet, column 'item_id'"),
    "no category": (drop("items", "category_id"), "items.parquet, column 'category_id'"),
    "no category of pairs": (
        drop("user_categories", "category_id"),
        "user_categories.parquet, column 'category_id'",
    ),
    "no feature": (drop("items", "price"), "items.parquet, column 'price': the file has no such"),
    "ids are texts": (
        lambda b: b.set_column("items", "item_id", [str(k) for k in range(20)]),
        "column 'item_id': holds strings, but input 'item_id' of item.onnx takes int64",
    ),
    "ids are floats": (
        lambda b: b.set_column("users", "user_id", np.arange(12.0)),
        "users.parquet, column 'user_id': ids must be of an integer type, or strings, not double",
    ),
    "feature is a text": (
        lambda b: b.set_column("items", "price", ["x"] * 20),
        "items.parquet, column 'price': holds strings, but input 'price' of item.onnx takes ",
    ),
    "feature is a time": (
        lambda b: b.set_column("items", "price", pa.array([0] * 20, pa.timestamp("s"))),
        "items.parquet, column 'price': must hold numbers, strings or lists of either, not time",
    ),
    "feature is binary": (
        lambda b: b.set_column("items", "price", [b"x"] * 20),
        "items.parquet, column 'price': must hold numbers, strings or lists of either, not binary",
    ),
    "null key": (
        column("users", "user_id", 3, None),
        "users.parquet, column 'user_id', row 3 (counted from 0): is null",
    ),
    "null item": (column("items", "item_id", 7, None), "items.parquet, column 'item_id', row 7 "),
    "null pair": (
        column("user_categories", "category_id", 2, None),
        "user_categories.parquet, column 'category_id', row 2 ",
    ),
    "null feature": (column("items", "price", 5, None), "items.parquet, column 'price', row 5 "),
    "null in a list": (
        column("users", "history", 4, [1, None]),
        "users.parquet, column 'history', row 4 (counted from 0): an element of the list is null",
    ),
    "id beyond int64": (
        lambda b: b.set_column("items", "item_id", np.arange(2**63 - 10, 2**63 + 10, dtype="u8")),
        "items.parquet, column 'item_id', row 10 (counted from 0): 9223372036854775808 is not an "
        "id within int64; view the ids as int64 or make strings of them, in questions too; nothing",
    ),
    "category beyond int64": (
        lambda b: b.set_column("items", "category_id", np.full(20, 2**64 - 1, np.uint64)),
        "items.parquet, column 'category_id', row 0 (counted from 0): 18446744073709551615 is not "
        "an id within int64; view the ids as int64 or make strings of them",
    ),
    "user twice": (
        append("users", user_id=100, history=[]),
        "users.parquet, column 'user_id', row 12 (counted from 0): 100 is there twice, "
        "first in row 5 of users.parquet",
    ),
    "item twice": (
        append("items", item_id=0, category_id=None, price=0.0),
        "items.parquet, column 'item_id', row 20 (counted from 0): 0 is there twice",
    ),
    "pair twice": (
        lambda b: b.set_table(
            "user_categories", pa.concat_tables([b.tables["user_categories"]] * 2)
        ),
        "user_categories.parquet, column 'category_id', row ",
    ),
    "pair without user": (
        append("user_categories", user_id=31337, category_id=1),
        "user_categories.parquet, column 'user_id', row 18 (counted from 0): "
        "user 31337 is not in the users table",
    ),
    "damaged page": (
        lambda b: damage(b.path / "users.parquet"),
        "users.parquet: cannot be read",
    ),
}


def damage(path: Path) -> None:
    """Overwrite the first data page and leave the footer."""
    raw = bytearray(path.read_bytes())
    raw[4:60] = b"\xff" * 56
    path.write_bytes(raw)


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_faults_of_the_tables(
    fault: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    change, text = TABLE_FAULTS[fault]
    change(built)
    refuse(export, file_place, built, FeatureTableError, text)


STRING_IDS = Recipe(
    user=[Term("age")],
    item=[Term("price")],
    user_category=[Term("age")],
    users={"user_id": ["u1", "u2"], "age": [1, 2]},
    items={"item_id": ["i1", "i2"], "category_id": ["c1", None], "price": [1, 2]},
    user_categories={"user_id": ["u1", "u2"], "category_id": ["c1", "c2"]},
)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda b: b.set_column("user_categories", "user_id", [1, 2]),
            "column 'user_id': ids are int64 here, but string in the users table",
        ),
        (
            lambda b: b.set_column("user_categories", "category_id", [1, 2]),
            "column 'category_id': ids are int64 here, but string in the items table",
        ),
        (
            lambda b: b.set_column("users", "user_id", ["u2", "u2"]),
            "column 'user_id', row 1 (counted from 0): 'u2' is there twice, first in row 0 of "
            "users.parquet",
        ),
        (
            lambda b: b.set_column("user_categories", "user_id", ["u1", "u2 "]),
            "column 'user_id', row 1 (counted from 0): user 'u2 ' is not in the users table",
        ),
        (
            lambda b: b.set_table(
                "user_categories", pa.table({"user_id": ["u1"] * 2, "category_id": ["c2"] * 2})
            ),
            "row 1 (counted from 0): the pair of user 'u1' and category 'c2' is there twice",
        ),
        (
            lambda b: b.set_column("items", "item_id", pa.array([b"i1", b"i2"])),
            "column 'item_id': ids must be of an integer type, or strings, not binary",
        ),
        (
            lambda b: b.set_column("items", "item_id", ["i1", "x" * 129]),
            "items.parquet, column 'item_id', row 1 (counted from 0): is a string of 129 bytes",
        ),
        (
            manifest(lambda m: m.update(unknown={"item": {"price": 0, "category_id": 3}})),
            "'unknown.item.category_id' is 3, but ids are strings of 1 to 128 bytes",
        ),
        (
            manifest(lambda m: m.update(unknown={"item": {"price": 0, "category_id": ""}})),
            "'unknown.item.category_id' is '', but ids are strings of 1 to 128 bytes",
        ),
    ],
)
def test_faults_of_ids_that_are_strings(
    change: Change, text: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", STRING_IDS)
    change(built)
    refuse(export, file_place, built, GkcError, text)


def test_row_numbers_in_a_folder_count_within_the_file(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", Recipe(folders=True))
    column("users", "user_id", 8, None)(built)
    refuse(
        export,
        file_place,
        built,
        FeatureTableError,
        "users/part-1.parquet, column 'user_id', row 2 ",
    )


def test_a_file_of_a_folder_without_the_column_is_named(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", Recipe(folders=True))
    narrow = built.tables["items"].slice(0, 3).drop_columns("price")
    pa.parquet.write_table(narrow, built.path / "items" / "part-2.parquet")
    refuse(
        export,
        file_place,
        built,
        FeatureTableError,
        "items/part-2.parquet, column 'price': the file",
    )


def test_more_pairs_than_allowed(file_place: Place, export: Export, tmp_path: Path) -> None:
    users = {"user_id": [5, 6], "history": [[1], [2]]}
    pairs = {"user_id": [6, 5, 5, 5, 5], "category_id": [1, 1, 2, 3, 4]}
    built = build(tmp_path / "bundle", Recipe(users=users, user_categories=pairs))
    refuse(
        export,
        file_place,
        built,
        FeatureTableError,
        "user_categories.parquet, column 'user_id', row 4 (counted from 0): user 5 has 4 pairs",
        "--max-pairs-per-user",
        max_pairs_per_user=3,
    )
    assert export(built, file_place, max_pairs_per_user=4).user_categories == 5


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
            "column 'city': holds strings, but input 'X' of user.onnx takes float32: cast the",
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


def test_right_digests_are_accepted(file_place: Place, export: Export, tmp_path: Path) -> None:
    built = build(tmp_path / "bundle")
    digests = {
        name: hashlib.sha256((built.path / name).read_bytes()).hexdigest()
        for name in (p.name for p in built.path.iterdir())
        if name != "manifest.json"
    }
    built.change_manifest(lambda m: m.update(sha256={n: d.upper() for n, d in digests.items()}))
    assert re.fullmatch(r"\d{10}-[0-9a-f]{8}", export(built, file_place).generation or "")


def edited(name: str, change: Callable[[onnx.ModelProto], object]) -> Change:
    """Change a model's ONNX."""

    def edit(built: Built) -> None:
        loaded = onnx.load(str(built.path / name))
        change(loaded)
        (built.path / name).write_bytes(loaded.SerializeToString())

    return edit


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


def test_a_column_that_pandas_kept_as_an_index_is_explained(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    index = {"index_columns": [{"kind": "range", "name": "item_id", "start": 0}], "columns": []}
    table = built.tables["items"].drop_columns("item_id")
    built.set_table("items", table.replace_schema_metadata({"pandas": json.dumps(index)}))
    text = "items.parquet, column 'item_id': the file has no such column; pandas keeps an index"
    refuse(export, file_place, built, FeatureTableError, text)
