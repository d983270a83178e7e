"""Each fault of a table is refused by file, column and row, and nothing is left in the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exporter import tables
from exporter.errors import FeatureTableError
from gkc.errors import GkcError
from tests.exporter.bundles import Built, Recipe, Term, build
from tests.exporter.conftest import Export
from tests.exporter.places import Place
from tests.exporter.refusals import Change, column, manifest, refuse


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
    "a key as logs call it": (
        lambda b: b.set_table("users", b.tables["users"].rename_columns({"user_id": "user"})),
        "the file has no such column; is 'user' it? rename it to 'user_id'",
    ),
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
            "column 'item_id': ids must be of an integer type, or strings, not binary; cast "
            "them to int64 (in pandas 'Int64', which may be null) or to string",
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


@pytest.mark.parametrize(
    ("users", "where"),
    [
        (12, "users.parquet, column 'history', row 5 (counted from 0): a list of 5,000 elements"),
        (1, "users.parquet, column 'history': a list of 5,000 elements"),
    ],
)
def test_a_list_that_is_too_long(
    users: int,
    where: str,
    file_place: Place,
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "_MOST_ELEMENTS", 1000)
    lists = [[1] * 5000 if k == 5 % users else [] for k in range(users)]
    of_users = {"user_id": range(users), "history": pa.array(lists, pa.list_(pa.int64()))}
    none = {"user_id": pa.array([], pa.int64()), "category_id": pa.array([], pa.int64())}
    recipe = Recipe(users=of_users, user_categories=none, pad={"history": 3})
    built = build(tmp_path / "bundle", recipe)
    text = "is longer than the 1,000 that are taken"
    refuse(export, file_place, built, FeatureTableError, where, text)


def test_a_string_that_is_too_long(
    file_place: Place, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MOST_TEXT_BYTES", 10)
    items = {"item_id": [1, 2], "category_id": [None, 1], "price": ["x", "x" * 11]}
    built = build(tmp_path / "bundle", Recipe(item=[Term("price", "str")], items=items))
    text = "items.parquet, column 'price', row 1 (counted from 0): is a string of 11 bytes"
    refuse(export, file_place, built, FeatureTableError, text)


def test_a_column_that_pandas_kept_as_an_index_is_explained(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    index = {"index_columns": [{"kind": "range", "name": "item_id", "start": 0}], "columns": []}
    table = built.tables["items"].drop_columns("item_id")
    built.set_table("items", table.replace_schema_metadata({"pandas": json.dumps(index)}))
    text = "items.parquet, column 'item_id': the file has no such column; pandas keeps an index"
    refuse(export, file_place, built, FeatureTableError, text)
