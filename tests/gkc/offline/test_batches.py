"""Knowledge beside record batches: the very bits that the service answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gkc.center.question import AnswerType
from gkc.errors import CommandError, GenerationCorruptError, TableFileError, VersionNotFoundError
from gkc.offline import join_batches
from gkc.offline.sources import lock_of_joined
from tests.gkc.http.running import SAFETENSORS, read_safetensors, session
from tests.gkc.offline.tables import EQUALLY_WIDE, draw, expected, publish, told, worlds_of
from tests.gkc.world import PARTS, STRINGS, Worlds, make_world, versions_of


def joined(table: pa.Table, at_once: int = 1000, **options: Any) -> pa.Table:
    return pa.Table.from_batches(list(join_batches(table.to_batches(at_once), **options)))


@pytest.mark.parametrize("dtype", get_args(AnswerType))
@pytest.mark.parametrize("version", EQUALLY_WIDE)
def test_bits_of_the_contract(worlds: Worlds, version: str, dtype: AnswerType) -> None:
    table = draw(300)
    found = joined(table, 70, store=worlds.url, version=version, dtype=dtype)
    assert found.select(table.schema.names).equals(table)
    assert told(found) == expected(table, [worlds[version]], dtype)
    versions = json.loads(found.schema.metadata[b"gkc.versions"])
    assert versions == {version: worlds[version].generation}


@pytest.mark.parametrize("held", [pa.string(), pa.large_string(), pa.string_view(), "dictionary"])
@pytest.mark.parametrize("strings", STRINGS)
def test_ids_that_are_strings(worlds: Worlds, strings: Any, held: Any) -> None:
    table = draw(300, strings=strings)
    for place, field in enumerate(table.schema):
        if field.type == pa.string():
            column = table[field.name]
            column = column.dictionary_encode() if held == "dictionary" else column.cast(held)
            table = table.set_column(place, field.name, column)
    for version in versions_of(strings):
        found = joined(table, 70, store=worlds.url, version=version, dtype="f16")
        assert told(found) == expected(table, [worlds[version]], "f16")


@pytest.mark.parametrize("parts", [("user",), ("user_category", "user_item"), PARTS[1:3]])
def test_some_parts(worlds: Worlds, parts: Any) -> None:
    table = draw(100)
    found = joined(table, store=worlds.url, version="half", parts=parts, prefix="k_")
    assert told(found, "k_") == expected(table, [worlds["half"]], parts=parts)


def test_a_version_of_each_row(worlds: Worlds) -> None:
    table = draw(500, versions=EQUALLY_WIDE)
    found = joined(table, 130, store=worlds.url, version_column="version", dtype="f16")
    assert told(found) == expected(table, worlds_of(table, worlds), "f16")


@pytest.mark.parametrize(
    ("versions", "strings"), [(EQUALLY_WIDE, ()), (versions_of(STRINGS[-1]), STRINGS[-1])]
)
def test_bits_of_the_service(worlds: Worlds, versions: Any, strings: Any) -> None:
    table = draw(1000, 0, versions, strings)
    found = joined(table, store=worlds.url, version_column="version")
    names = {"u": "user_id", "i": "item_id", "c": "category_id", "v": "version"}
    body = {field: table[name].to_pylist() for field, name in names.items()}
    with session(worlds.url) as service:
        answer = read_safetensors(service.post(body, headers={"accept": SAFETENSORS}))
    assert told(found) == ([row.tobytes() for row in answer.knowledge], answer.status)


def test_without_categories_and_without_rows(worlds: Worlds) -> None:
    table = draw(50).drop_columns(["category_id"])
    found = joined(table, store=worlds.url, version="full")
    nothing = pa.nulls(50, pa.int64())
    assert told(found) == expected(table.append_column("category_id", nothing), [worlds["full"]])
    assert list(join_batches(draw(0).to_batches(), store=worlds.url, version="full")) == []


@pytest.mark.parametrize("held", [pa.int64(), pa.float64(), pa.string(), pa.null()])
def test_categories_that_are_all_null_are_of_any_type(worlds: Worlds, held: pa.DataType) -> None:
    for strings in ((), ("category",)):
        version = versions_of(strings)[0] if strings else "half"
        table = draw(50, strings=strings).drop_columns(["category_id"])
        table = table.append_column("category_id", pa.nulls(50, held))
        found = joined(table, 20, store=worlds.url, version=version)
        assert told(found) == expected(table, [worlds[version]])


async def test_in_a_notebook_whose_event_loop_runs(worlds: Worlds) -> None:
    table = draw(30)
    found = joined(table, 10, store=worlds.url, version="half")
    assert told(found) == expected(table, [worlds["half"]])


def test_one_row_at_a_time(worlds: Worlds) -> None:
    table = draw(30)
    found = joined(table, 1, store=worlds.url, version="half-defaults")
    assert told(found) == expected(table, [worlds["half-defaults"]])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "name either a version or the column"),
        ({"version": "half", "version_column": "version"}, "name either"),
        ({"version": "half", "dtype": "f64"}, "f64"),
        ({"version": "half", "parts": ("nothing",)}, "'nothing' is no part"),
        ({"version": "half", "parts": "user_item"}, r"such as \['user_item'\]"),
        ({"version": 20211220}, r"version is a str such as '20211220', not 20211220 \(int\)"),
        ({"version_column": 3}, "version_column is a str"),
        ({"version": "large", "dtype": "f16"}, "type f16 may overflow: user_item of version"),
    ],
)
def test_what_cannot_be_asked(worlds: Worlds, options: Any, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        joined(draw(3), store=worlds.url, **options)


@pytest.mark.parametrize("given", ["table", "batch", "path", "text", "nothing"])
def test_what_gives_no_batches_is_refused_at_once(
    worlds: Worlds, tmp_path: Path, given: str
) -> None:
    table = draw(3)
    given_as: dict[str, Any] = {
        "table": table,
        "batch": table.to_batches()[0],
        "path": tmp_path,
        "text": "train.parquet",
        "nothing": None,
    }
    with pytest.raises(CommandError, match=r"record batches are wanted, not a [^ ]+; pyarrow's"):
        join_batches(given_as[given], store=worlds.url, version="half")


def test_what_is_no_batch_is_refused_by_its_type(worlds: Worlds) -> None:
    frame = dict.fromkeys(("user_id", "item_id"))  # as one of pandas, it gives names of columns
    others: dict[str, Any] = {"list that gives a Table": [draw(3)], "dict that gives a str": frame}
    for said, given in others.items():
        found = join_batches(given, store=worlds.url, version="half")
        with pytest.raises(CommandError, match=f"not a {said}; pyarrow's table"):
            next(found)


def test_a_store_is_a_url(worlds: Worlds, tmp_path: Path) -> None:
    store: Any = tmp_path
    with pytest.raises(CommandError, match=r"store is a str such as 'file:.*, not PosixPath"):
        join_batches([], store=store, version="half")


def test_files_of_batches_are_locked(url: str, tmp_path: Path) -> None:
    for version in ("a", "b"):
        publish(url, version)
    table = draw(20, versions=("a", "b"))
    options: dict[str, Any] = {"one": {"version": "b"}, "all": {"version_column": "version"}}
    for name, asked in options.items():
        found = joined(table, store=url, parts=("user", "item"), **asked)
        pq.write_table(found, tmp_path / name)
        locked = lock_of_joined(tmp_path / name).versions
        assert sorted(locked) == (["b"] if name == "one" else ["a", "b"])
        assert locked["b"].vector_space == "run-7"
        assert list(json.loads(found.schema.metadata[b"gkc.parts"])) == ["user", "item"]


def test_versions_of_unequal_widths(worlds: Worlds) -> None:
    table = draw(50, versions=("half", "wide"))
    with pytest.raises(CommandError, match="unequal widths"):
        joined(table, store=worlds.url, version_column="version")
    apart = [*draw(5, versions=("half",)).to_batches(), *draw(5, versions=("wide",)).to_batches()]
    with pytest.raises(TableFileError, match="width of their versions' rows"):
        list(join_batches(apart, store=worlds.url, version_column="version"))


def test_rows_that_cannot_be_asked(worlds: Worlds) -> None:
    with pytest.raises(VersionNotFoundError, match="'none' is not in the store"):
        joined(draw(3), store=worlds.url, version="none")
    with pytest.raises(VersionNotFoundError, match="'none' is not in the store"):
        joined(draw(3, versions=("none",)), store=worlds.url, version_column="version")
    batches = [*draw(10).to_batches(), *nobody(draw(3)).to_batches()]
    with pytest.raises(TableFileError, match="the batches, column 'user_id', row 10"):
        list(join_batches(batches, store=worlds.url, version="half"))
    for version, column, kind in (("user", "user_id", "int64"), ("half", "item_id", "string")):
        table = draw(3, strings=("item",))
        with pytest.raises(
            TableFileError, match=f"column '{column}': holds {kind}, but version '{version}' has"
        ):
            joined(table, store=worlds.url, version=version)
        table = table.append_column("version", pa.array([version] * 3))
        with pytest.raises(
            TableFileError, match=f"column '{column}': holds {kind}, but version '{version}' has"
        ):
            joined(table, store=worlds.url, version_column="version")
    with pytest.raises(CommandError, match="the table names versions of unequal types of ids"):
        joined(draw(9, versions=("user", "half")), store=worlds.url, version_column="version")
    with pytest.raises(TableFileError, match="column 'knowledge': is there already"):
        joined(draw(3).append_column("knowledge", pa.nulls(3)), store=worlds.url, version="half")


def nobody(table: pa.Table) -> pa.Table:
    place = table.schema.names.index("user_id")
    return table.set_column(place, "user_id", pa.nulls(table.num_rows, pa.int64()))


def test_damage_is_told(url: str) -> None:
    world = make_world().publish(url)
    (path,) = Path(url.removeprefix("file:")).rglob("users.gkt")
    raw = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    raw[-8:] ^= 1
    path.chmod(0o644)
    path.write_bytes(raw.tobytes())
    with pytest.raises(GenerationCorruptError, match=world.generation):
        joined(draw(100), store=url, version="v1")
