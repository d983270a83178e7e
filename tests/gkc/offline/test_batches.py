"""Knowledge beside record batches: the very bits that the service answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from gkc.center.question import AnswerType
from gkc.errors import CommandError, GenerationCorruptError, TableFileError, VersionNotFoundError
from gkc.offline import join_batches
from tests.gkc.http.running import SAFETENSORS, read_safetensors, session
from tests.gkc.offline.tables import EQUALLY_WIDE, draw, expected, told, worlds_of
from tests.gkc.world import PARTS, Worlds, make_world


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


@pytest.mark.parametrize("parts", [("user",), ("user_category", "user_item"), PARTS[1:3]])
def test_some_parts(worlds: Worlds, parts: Any) -> None:
    table = draw(100)
    found = joined(table, store=worlds.url, version="half", parts=parts, prefix="k_")
    assert told(found, "k_") == expected(table, [worlds["half"]], parts=parts)


def test_a_version_of_each_row(worlds: Worlds) -> None:
    table = draw(500, versions=EQUALLY_WIDE)
    found = joined(table, 130, store=worlds.url, version_column="version", dtype="f16")
    assert told(found) == expected(table, worlds_of(table, worlds), "f16")


def test_bits_of_the_service(worlds: Worlds) -> None:
    table = draw(1000, versions=EQUALLY_WIDE)
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
        ({"version": "large", "dtype": "f16"}, "type f16 may overflow: user_item of version"),
    ],
)
def test_what_cannot_be_asked(worlds: Worlds, options: Any, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        joined(draw(3), store=worlds.url, **options)


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
