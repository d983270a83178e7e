from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exporter import inputs, partitions, spill
from exporter.errors import FeatureTableError, ModelOutputError
from exporter.progress import PhaseProgress
from exporter.run import (
    ExportOptions,
    ahead,
    largest_row,
    plan_export,
    product_overflows,
    run_export,
)
from gkc.arrays import F32
from gkc.errors import VersionLimitError
from gkc.store import Defaults, ElementType, Retention, decode_vectors
from tests.exporter.bundles import STRING_IDS, WORDS, Recipe, Term, build
from tests.exporter.conftest import Export
from tests.exporter.places import Place, catalogue_json, stored

NO_GRACE = Retention(grace_seconds=0.0)
NO_IDS = np.zeros(0, np.int64)
UNKNOWN: dict[str, dict[str, Any]] = {
    "user": {"user_id": 0, "history": []},
    "item": {"item_id": 9, "price": 0.5, "category_id": -3},
    "user_category": {"user_id": 1, "history": [5, 6], "category_id": 2},
}
LISTS_OF_NOTHING = {"user_id": [1, 2, 3], "history": [[], None, []]}

STRINGS = Recipe(
    user=[Term("city", "str"), Term("tags", "str", "T", is_list=True)],
    item=[Term("brand", "str", 1), Term("colours", "str", 2, is_list=True), Term("price")],
    user_category=[
        Term("city", "str", 1),
        Term("tags", "str", 2, is_list=True),
        Term("season", "str"),
        Term("category_id"),
    ],
    users={
        "user_id": [1, -2, 2**60, 4],
        "city": ["Zürich", "", "東京", "nowhere"],
        "tags": [["Aachen", "", "Zürich"], [], None, ["Zürich", "Zürich"]],
    },
    items={
        "item_id": [10, 11, 12],
        "category_id": [4, None, 4],
        "price": [1, 2, 3],
        "brand": pa.array(["a\0b", WORDS[-1], "a\0b"]).dictionary_encode(),
        "colours": pa.array([[" "], None, WORDS[1:5]], pa.large_list(pa.large_string())),
    },
    user_categories={
        "user_id": [1, 2**60, 1],
        "category_id": [7, 8, -7],
        "season": ["Aachen", "東京", "other"],
    },
    unknown={
        "user": {"city": "東京", "tags": ["Zürich", "unheard of"]},
        "item": {"brand": None, "colours": [], "price": 0},
        "user_category": {"city": "", "tags": None, "season": "Aachen", "category_id": 1},
    },
)

SIDE_BY_SIDE = Recipe(
    user=[
        Term("age", "float32", 3, name="X", beside=("user_id", "new")),
        Term("city", "str", "k", name="words", beside=("town",)),
    ],
    item=[Term("price", "float64", "k", name="X", beside=()), Term("item_id")],
    user_category=[
        Term("category_id", "int64", 2, name="X", beside=("user_id",)),
        Term("weight", "float16", 2, name="Y", beside=("age",)),
    ],
    users={
        "user_id": [1, -2, 5],
        "age": [18, 30.5, 45],
        "new": [True, False, True],
        "city": ["Zürich", "東京", ""],
        "town": ["Aachen", "Zürich", "other"],
    },
    user_categories={"user_id": [1, 5, 5], "category_id": [7, 8, -9], "weight": [1.0, 2.0, 0.5]},
    unknown={
        "user": {"age": 2, "user_id": 0, "new": False, "city": None, "town": "東京"},
        "item": {"price": 0.5, "item_id": 0, "category_id": 5},
        "user_category": {"category_id": 1, "user_id": 2, "weight": 0, "age": 0.25},
    },
)

STRING_USERS = Recipe(
    user=[Term("age")],
    user_category=[Term("category_id"), Term("age")],
    users={"user_id": ["u1", "u2"], "age": [1, 2]},
    user_categories={"user_id": ["u2", "u1"], "category_id": [7, -7]},
)

STRING_CATEGORIES = Recipe(
    user_category=[Term("user_id"), Term("category_id", "str")],
    items={"item_id": [1, 2], "category_id": ["Aachen", "new"], "price": [1.0, 2.0]},
    user_categories={"user_id": [0, -5, 0], "category_id": ["Zürich", "Aachen", "Aachen"]},
)

NO_PAIRS = Recipe(
    category_dim=0,
    user_category=[],
    unknown={kind: row for kind, row in UNKNOWN.items() if kind != "user_category"},
)

RECIPES = {
    "without user_category": NO_PAIRS,
    "without user_category, in folders": replace(NO_PAIRS, folders=True),
    "without any category": replace(
        NO_PAIRS, items={"item_id": [1, -2], "price": [0.5, 1]}, unknown={}
    ),
    "columns side by side": SIDE_BY_SIDE,
    "columns side by side, models of one batch size": replace(SIDE_BY_SIDE, batch=5),
    "string ids": STRING_IDS,
    "string ids in folders": replace(STRING_IDS, folders=True),
    "string ids of users": STRING_USERS,
    "string ids of items": replace(
        STRING_IDS,
        users=None,
        user=[Term("user_id")],
        user_category=[Term("user_id")],
        user_categories={"user_id": [0, -5], "category_id": ["Aachen", "other"]},
        unknown={},
    ),
    "string ids of categories": STRING_CATEGORIES,
    "strings": STRINGS,
    "strings in folders": replace(STRINGS, folders=True, pad={"tags": 4}),
    "strings, models of one batch size": replace(STRINGS, batch=5),
    "plain": Recipe(),
    "unequal widths": Recipe(dim=3, category_dim=17),
    "one wide": Recipe(dim=1, category_dim=1),
    "defaults": Recipe(unknown=UNKNOWN),
    "folders": Recipe(folders=True),
    "lists of fixed length": Recipe(
        user=[Term("user_id"), Term("history", width=3, is_list=True)],
        user_category=[Term("category_id"), Term("history", width=2, is_list=True)],
    ),
    "padded lists": Recipe(pad={"history": 4}),
    "narrow and wide types": Recipe(
        user=[Term("history", "int32", "T", is_list=True), Term("age", "float64", 1)],
        item=[Term("category_id", "int32"), Term("price", "float16"), Term("new", "bool", 1)],
        user_category=[Term("category_id", "int64", 1), Term("age", "float32")],
        users={
            "user_id": [1, -2, 2**60],
            "history": [[1, 2], [], [3]],
            "age": [18, 30, 45],
        },
        items={
            "item_id": [10, 11],
            "category_id": [4, None],
            "price": [0.5, 2],
            "new": [True, False],
        },
        user_categories={"user_id": [1, 2**60], "category_id": [7, 8]},
    ),
    "only empty lists": Recipe(
        users=LISTS_OF_NOTHING, user_categories={"user_id": [1, 1], "category_id": [3, 4]}
    ),
    "models of one batch size": Recipe(batch=5),
    "double outputs": Recipe(output_type="float64"),
    "half outputs, width not declared": Recipe(output_type="float16", declared_width=False),
    "renamed inputs": Recipe(
        user=[Term("user_id", name="u"), Term("user_id", "int32", name="v")],
        users={"user_id": [-7, 8], "history": [[1], [2]]},
        user_categories={"user_id": [8], "category_id": [1]},
    ),
    "no pairs": Recipe(
        users={"user_id": [1], "history": [[1]]},
        user_categories={"user_id": NO_IDS, "category_id": NO_IDS},
    ),
    "nothing at all": Recipe(
        users={"user_id": NO_IDS, "history": pa.array([], pa.list_(pa.int64()))},
        items={"item_id": NO_IDS, "category_id": NO_IDS, "price": np.zeros(0)},
        user_categories={"user_id": NO_IDS, "category_id": NO_IDS},
    ),
    "ids of narrow types": Recipe(
        users={"user_id": np.array([1, 2], np.uint16), "history": [[1], [2]]},
        items={
            "item_id": np.array([-1, 5], np.int8),
            "category_id": np.array([1, 2], np.uint64),
            "price": np.array([1, 2], np.uint8),
        },
        user_categories={
            "user_id": np.array([2], np.int32),
            "category_id": np.array([2], np.int16),
        },
    ),
    "other list types": Recipe(
        users={
            "user_id": [1, 2],
            "history": pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
        },
        user_categories={"user_id": [1], "category_id": [2]},
    ),
}


def rounded(vectors: F32, element_type: str) -> F32:
    """How far a stored value may lie from the model's, by the definition of each type."""
    if element_type == "f32":
        return np.zeros_like(vectors)
    if element_type == "f16":
        # Eleven significant bits; below 2**-14 the step stays 2**-24.
        return np.abs(vectors) * np.float32(2**-11) + np.float32(2**-25)
    return np.full(vectors.shape, np.abs(vectors).max(initial=0) / 127 / 2, np.float32)


def assert_stored(found: F32, truth: F32, element_type: str, relative: float = 1e-5) -> None:
    allowed = rounded(truth, element_type) * 1.01 + 1e-6 + relative * np.abs(truth)
    assert found.dtype == np.float32
    assert found.shape == truth.shape
    assert (np.abs(found - truth) <= allowed).all(), (found, truth)


@pytest.mark.parametrize("element_type", get_args(ElementType))
@pytest.mark.parametrize("name", RECIPES)
def test_every_vector_is_what_numpy_makes_of_the_weights(
    name: str, element_type: ElementType, place: Place, export: Export, tmp_path: Path
) -> None:
    recipe = RECIPES[name]
    relative = 2e-3 if recipe.output_type == "float16" else 1e-5
    built = build(tmp_path / "bundle", recipe)
    report = export(built, place, element_type=element_type)

    users, items, pairs = built.user_vectors(), built.item_vectors(), built.pair_vectors()
    found = stored(place, "v1", [*users, 424242], [*items, 424242])
    assert found.users.keys() == users.keys()
    assert found.items.keys() == items.keys()
    assert found.pairs.keys() == pairs.keys()
    for user, truth in users.items():
        assert_stored(found.users[user], truth, element_type, relative)
    for pair, truth in pairs.items():
        assert_stored(found.pairs[pair], truth, element_type, relative)
    categories = {r["item_id"]: r.get("category_id") for r in built.tables["items"].to_pylist()}
    for item, truth in items.items():
        assert_stored(found.items[item][0], truth, element_type, relative)
        assert found.items[item][1] == categories[item]
    assert (report.users, report.items) == (len(users), len(items))
    assert report.user_categories == len(pairs)
    assert found.manifest.generation == report.generation
    assert found.manifest.totals.size_bytes == report.bytes


@pytest.mark.parametrize("element_type", get_args(ElementType))
@pytest.mark.parametrize(
    "recipe", [Recipe(unknown=UNKNOWN), STRINGS, STRING_IDS, SIDE_BY_SIDE, NO_PAIRS]
)
def test_rows_for_unknown_ids_become_the_defaults(
    recipe: Recipe,
    element_type: ElementType,
    file_place: Place,
    export: Export,
    tmp_path: Path,
) -> None:
    built = build(tmp_path / "bundle", recipe)
    export(built, file_place, element_type=element_type)
    manifest = stored(file_place, "v1", [], []).manifest
    defaults, category = manifest.spec.defaults, recipe.unknown["item"].get("category_id")
    if isinstance(category, str):  # its place among all categories
        category = sorted({category, "Aachen", "Zürich", "東京", "other"}, key=str.encode).index(
            category
        )
    assert defaults.item_category == category
    for kind in recipe.kinds:
        truth = built.output(kind, recipe.unknown[kind])
        raw = getattr(defaults, kind)
        rows = np.frombuffer(raw, np.uint8)[np.newaxis]
        assert_stored(decode_vectors(rows, element_type, len(truth))[0], truth, element_type)


def test_without_rows_for_unknown_ids_there_are_no_defaults(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    export(build(tmp_path / "bundle"), file_place)
    assert stored(file_place, "v1", [], []).manifest.spec.defaults == Defaults()


def test_order_and_pieces_of_the_tables_do_not_matter(
    place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    export(built, place)
    users = list(built.user_vectors())
    before = stored(place, "v1", users, [])
    random = np.random.default_rng(3)
    for name, table in list(built.tables.items()):
        built.set_table(name, table.take(random.permutation(len(table))), row_group_size=3)
    export(built, place)
    assert stored(place, "v1", users, []).raw == before.raw


def as_pandas_writes(table: pa.Table, path: Path) -> None:
    """Categoricals, 64-bit offsets, and a note of its index."""
    index = {"index_columns": [{"kind": "range", "name": None}], "columns": []}
    laid_out = retyped(table, pa.large_string(), pa.list_(pa.string()))
    for place, field in enumerate(laid_out.schema):
        if field.name in ("city", "brand", "user_id", "category_id") and is_text(field.type):
            encoded = laid_out.column(place).dictionary_encode()
            categorical = encoded.cast(pa.dictionary(pa.int8(), pa.string(), ordered=True))
            laid_out = laid_out.set_column(place, field.name, categorical)
    pq.write_table(laid_out.replace_schema_metadata({"pandas": json.dumps(index)}), path)


def as_polars_writes(table: pa.Table, path: Path) -> None:
    """All with 64-bit offsets."""
    pq.write_table(retyped(table, pa.large_string(), pa.large_list(pa.large_string())), path)


def as_spark_writes(table: pa.Table, path: Path) -> None:
    """A folder named as a file: uneven parts, one of them empty, markers, no types of Arrow."""
    path.mkdir()
    plain = retyped(table, pa.string(), pa.list_(pa.string()))
    for k, part in enumerate([plain.slice(0, 1), plain.slice(1, 0), plain.slice(1)]):
        name = f"part-{k:05d}-5b1f0b5e-c000.snappy.parquet"
        pq.write_table(part, path / name, store_schema=False, row_group_size=1)
        (path / f".{name}.crc").write_bytes(b"crc")
    (path / "_SUCCESS").touch()


def retyped(table: pa.Table, text: pa.DataType, texts: pa.DataType) -> pa.Table:
    """Lay out strings, and lists of them, in other types."""
    types = {"colours": texts, "tags": texts}
    fields = [
        f.with_type(types.get(f.name, text if is_text(f.type) else f.type)) for f in table.schema
    ]
    return table.cast(pa.schema(fields))


def is_text(held: pa.DataType) -> bool:
    layouts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return pa.types.is_dictionary(held) or any(is_layout(held) for is_layout in layouts)


@pytest.mark.parametrize("write", [as_pandas_writes, as_polars_writes, as_spark_writes])
@pytest.mark.parametrize("recipe", [STRINGS, STRING_IDS], ids=["features", "ids"])
def test_strings_are_the_same_however_they_were_written(
    recipe: Recipe,
    write: Callable[[pa.Table, Path], None],
    file_place: Place,
    export: Export,
    tmp_path: Path,
) -> None:
    built = build(tmp_path / "bundle", recipe)
    users, items = list(built.user_vectors()), list(built.item_vectors())
    export(built, file_place)
    before = stored(file_place, "v1", users, items)
    for name, table in built.tables.items():
        (built.path / f"{name}.parquet").unlink()
        write(table, built.path / f"{name}.parquet")
    export(built, file_place)
    after = stored(file_place, "v1", users, items)
    assert after.raw == before.raw
    for item, (vector, _) in before.items.items():
        assert np.array_equal(after.items[item][0], vector)


def test_more_rows_than_one_partition_and_one_batch_hold(
    file_place: Place, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_PARTITION_ROWS", 100)
    monkeypatch.setattr(inputs, "_BATCH_ITEMS", 30)
    monkeypatch.setattr(inputs, "_BATCH_USERS", 20)
    monkeypatch.setattr(inputs, "_BATCH_PAIRS", 50)
    monkeypatch.setattr(spill, "_CHUNK_BYTES", 2000)
    built = build(tmp_path / "bundle", big_recipe(500, 400))
    export(built, file_place)
    users, items, pairs = built.user_vectors(), built.item_vectors(), built.pair_vectors()
    found = stored(file_place, "v1", list(users), list(items))
    assert found.pairs.keys() == pairs.keys()
    for user, truth in users.items():
        assert_stored(found.users[user], truth, "f16")
    for item, truth in items.items():
        assert_stored(found.items[item][0], truth, "f16")
    for pair, truth in pairs.items():
        assert_stored(found.pairs[pair], truth, "f16")


def big_recipe(users: int, items: int) -> Recipe:
    """Rows in a scattered order, up to nine pairs a user."""
    random = np.random.default_rng(5)
    user_ids = random.permutation(users) * 7919
    counts = random.integers(0, 10, users)
    return Recipe(
        users={
            "user_id": user_ids,
            "history": [random.integers(0, 99, n).tolist() for n in random.integers(0, 9, users)],
            "city": random.choice(WORDS, users),
            "tags": [random.choice(WORDS, n).tolist() for n in random.integers(0, 9, users)],
        },
        items={
            "item_id": random.permutation(items) - 50,
            "category_id": random.integers(0, 9, items),
            "price": random.random(items),
        },
        user_categories={
            "user_id": np.repeat(user_ids, counts),
            "category_id": np.concatenate([random.permutation(20)[:n] for n in counts]),
            "season": random.choice([*WORDS, "unheard of"], counts.sum()),
        },
        user=[Term("user_id"), Term("history", width="T", is_list=True), Term("city", "str")],
        user_category=[
            Term("category_id"),
            Term("season", "str", 1),
            Term("tags", "str", "T", is_list=True),
        ],
    )


def test_five_versions_stay_and_the_report_names_the_evicted(
    place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    for k in range(5):
        assert export(built, place, f"v{k}").evicted == []
    size = len(place.data())
    assert export(built, place, "v5").evicted == ["v0"]
    assert len(place.data()) == size


def test_a_full_house_of_pins_is_refused_before_a_model_is_loaded(
    place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    for k in range(2):
        export(built, place, f"v{k}", retention=Retention(2, pin=True))
    before = catalogue_json(place)
    for kind in ("user", "item", "user_category"):
        (built.path / f"{kind}.onnx").write_bytes(b"whoever loads this fails otherwise")
    with pytest.raises(VersionLimitError, match="v0, v1"):
        export(built, place, "v2", retention=Retention(2))
    assert catalogue_json(place) == before


def test_a_dry_run_writes_nothing_and_names_what_would_be_evicted(
    place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    for k in range(2):
        export(built, place, f"v{k}")
    before, data = catalogue_json(place), place.data()
    options = ExportOptions("v9", built.path, place.url, place.namespace, retention=Retention(2))
    planned = plan_export(options, PhaseProgress(on_terminal=False))
    assert planned.evicted == ["v0"]
    assert planned.generation is None
    assert (planned.users, planned.items) == (12, 20)
    assert catalogue_json(place) == before
    assert place.data() == data


def test_a_dry_run_refuses_what_an_export_would(file_place: Place, tmp_path: Path) -> None:
    built = build(tmp_path / "bundle")
    built.set_table("users", built.tables["users"].drop_columns("history"))
    options = ExportOptions("v1", built.path, file_place.url)
    with pytest.raises(FeatureTableError, match=r"users\.parquet, column 'history'"):
        plan_export(options, PhaseProgress(on_terminal=False))


class StoppingProgress(PhaseProgress):
    """Ends the export, as the user would, once so many rows of a phase are done."""

    def __init__(self, rows: int, error: BaseException, phase: str = "write") -> None:
        super().__init__(on_terminal=False)
        self._left = rows
        self._error = error
        self._phase = phase

    def advance(self, rows: int) -> None:
        if self.phase == self._phase:
            self._left -= rows
            if self._left <= 0:
                raise self._error


@pytest.mark.parametrize("stop_after", [1, 200, 700, 2000])
def test_a_resumed_export_stores_the_bytes_of_one_that_was_not_interrupted(
    stop_after: int,
    place: Place,
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitions, "_PARTITION_ROWS", 150)
    monkeypatch.setattr(inputs, "_BATCH_ITEMS", 40)
    monkeypatch.setattr(inputs, "_BATCH_USERS", 30)
    built = build(tmp_path / "bundle", big_recipe(400, 300))
    users, items = list(built.user_vectors()), list(built.item_vectors())
    export(built, place, "whole")
    options = ExportOptions(
        "v1", built.path, place.url, place.namespace, retention=NO_GRACE, resume=True
    )
    with pytest.raises(KeyboardInterrupt):
        run_export(options, StoppingProgress(stop_after, KeyboardInterrupt()))
    interrupted = json.loads(catalogue_json(place))["generations"]
    (staged,) = (g for g, e in interrupted.items() if e["state"] == "staging")

    report = run_export(options, PhaseProgress(on_terminal=False))
    assert report.generation == staged
    whole, found = stored(place, "whole", users, items), stored(place, "v1", users, items)
    assert found.raw == whole.raw
    assert found.manifest.totals == whole.manifest.totals
    for item in items:
        assert np.array_equal(found.items[item][0], whole.items[item][0])
        assert found.items[item][1] == whole.items[item][1]


def test_an_export_interrupted_while_it_verifies_is_resumed(
    place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    export(built, place, "whole")
    options = ExportOptions(
        "v1", built.path, place.url, place.namespace, retention=NO_GRACE, resume=True
    )
    with pytest.raises(KeyboardInterrupt):
        run_export(options, StoppingProgress(1, KeyboardInterrupt(), "verify"))
    entries = json.loads(catalogue_json(place))["generations"]
    (staged,) = (g for g, e in entries.items() if e["state"] == "staging")
    assert run_export(options, PhaseProgress(on_terminal=False)).generation == staged
    users = list(built.user_vectors())
    assert stored(place, "v1", users, []).raw == stored(place, "whole", users, []).raw


def test_without_resume_what_an_interrupted_export_left_is_swept(
    place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    options = ExportOptions("v1", built.path, place.url, place.namespace, retention=NO_GRACE)
    with pytest.raises(KeyboardInterrupt):
        run_export(options, StoppingProgress(1, KeyboardInterrupt()))
    (staged,) = json.loads(catalogue_json(place))["generations"]
    assert export(built, place).generation != staged
    assert not [name for name in place.data() if staged in name]


def test_another_bundle_is_not_resumed(place: Place, export: Export, tmp_path: Path) -> None:
    built = build(tmp_path / "bundle")
    options = ExportOptions(
        "v1", built.path, place.url, place.namespace, retention=NO_GRACE, resume=True
    )
    with pytest.raises(KeyboardInterrupt):
        run_export(options, StoppingProgress(1, KeyboardInterrupt()))
    (staged,) = json.loads(catalogue_json(place))["generations"]
    built.set_column("items", "price", np.zeros(20))
    report = export(built, place, resume=True)
    assert report.generation != staged
    assert not [name for name in place.data() if staged in name]


def test_a_fault_of_ours_midway_leaves_no_key_or_file(
    place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", big_recipe(400, 300))
    options = ExportOptions("v1", built.path, place.url, place.namespace)
    with pytest.raises(ZeroDivisionError):
        run_export(options, StoppingProgress(350, ZeroDivisionError()))
    assert place.data() == {}
    assert place.catalogue_is_empty()


def test_a_product_that_overflows_is_refused(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", Recipe(scale=1e22))
    with pytest.raises(ModelOutputError, match="is not finite in float32"):
        export(built, file_place, element_type="f32")
    assert file_place.data() == {}


FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 5)), elements=FLOATS))
def test_the_largest_value_is_found_with_its_row(vectors: np.ndarray) -> None:
    value, row = largest_row(vectors)
    if len(vectors):
        assert value == np.abs(vectors).max()
        assert np.abs(vectors[row]).max() == value
    else:
        assert (value, row) == (0.0, 0)


@pytest.mark.parametrize(
    ("user", "item", "overflows"),
    [(1.0, 1.0, False), (1e19, 1e19, False), (1e19, 1e20, True), (0.0, 3e38, False)],
)
def test_a_product_overflows_beyond_float32(user: float, item: float, overflows: bool) -> None:
    assert product_overflows(user, item) == overflows


def test_items_come_in_order() -> None:
    with ahead(iter(range(100)), 3) as numbers:
        assert list(numbers) == list(range(100))


def test_no_more_than_depth_items_run_ahead() -> None:
    made: list[int] = []
    third = threading.Event()

    def source() -> Iterator[int]:
        for k in range(100):
            made.append(k)
            if k == 3:
                third.set()
            yield k

    with ahead(source(), 2) as numbers:
        assert next(numbers) == 0
        assert third.wait(5)
        # One taken, two waiting, one in the thread's hand.
        assert len(made) == 4


def test_an_error_reaches_the_consumer_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("two is missing")

    seen: list[int] = []
    with ahead(source(), 2) as numbers, pytest.raises(ValueError, match="two is missing"):
        seen.extend(numbers)
    assert seen == [1]


def test_leaving_early_stops_every_stage() -> None:
    def source() -> Iterator[int]:
        k = 0
        while True:
            yield k
            k += 1

    before = threading.active_count()
    with ahead(source(), 2) as first, ahead((2 * k for k in first), 2) as second:
        assert [k for k, _ in zip(second, range(3), strict=False)] == [0, 2, 4]
    assert threading.active_count() == before


def test_a_consumer_that_fails_stops_the_thread() -> None:
    def consume() -> None:
        with ahead(iter(range(1000)), 2) as numbers:
            raise KeyError(next(numbers))

    before = threading.active_count()
    with pytest.raises(KeyError):
        consume()
    assert threading.active_count() == before
