"""A generation as Parquet: the numbers that are stored, of everybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gkc.errors import (
    GenerationCorruptError,
    GenerationNotFoundError,
    TableFileError,
    VersionNotFoundError,
)
from gkc.offline import export_table
from gkc.offline.export_table import TableExport
from gkc.offline.snapshot import StoreAddress
from gkc.store import ELEMENT_TYPES, ElementType, UserBlock
from tests.gkc.offline.tables import read
from tests.gkc.world import STRINGS, World, make_world


def vectors(table: pa.Table) -> list[bytes]:
    flat = table["knowledge"].combine_chunks().flatten().to_numpy(zero_copy_only=True)
    return [row.tobytes() for row in flat.reshape(table.num_rows, -1)]


def assert_is(folder: Path, world: World) -> None:
    """Compare tables to a world, number by number."""
    kind = np.float16 if world.element_type == "f16" else np.float32

    def stored(vector: list[np.float32]) -> bytes:
        return np.array(world.stored(vector), dtype=kind).tobytes()

    users = read(folder / "users.parquet")
    assert dict(zip(users["user_id"].to_pylist(), vectors(users), strict=True)) == {
        user: stored(vector) for user, vector in world.users.items()
    }
    items = read(folder / "items.parquet")
    found = zip(items["category_id"].to_pylist(), vectors(items), strict=True)
    assert dict(zip(items["item_id"].to_pylist(), found, strict=True)) == {
        item: (world.item_categories.get(item), stored(vector))
        for item, vector in world.items.items()
    }
    pairs = read(folder / "user_categories.parquet")
    ids = zip(pairs["user_id"].to_pylist(), pairs["category_id"].to_pylist(), strict=True)
    assert dict(zip(ids, vectors(pairs), strict=True)) == {
        pair: stored(vector) for pair, vector in world.pairs.items()
    }
    for table in (users, items, pairs):
        told = json.loads(table.schema.metadata[b"gkc.versions"])
        assert told == {world.version: world.generation}


@pytest.mark.parametrize(
    ("element_type", "strings"),
    [*((kind, ()) for kind in ELEMENT_TYPES), *(("f16", kinds) for kinds in STRINGS)],
)
def test_the_stored_numbers(
    url: str, element_type: ElementType, strings: tuple[str, ...], tmp_path: Path
) -> None:
    world = make_world("v1", 3, element_type, defaults=True, strings=strings).publish(url)
    told: list[int] = []
    export = TableExport(StoreAddress(url), "v1", tmp_path / "a" / "out")
    report = export.run(told.append)
    assert_is(tmp_path / "a" / "out", world)
    assert sum(told) == export.rows == len(world.users) + len(world.items)
    assert (report.generation, report.users) == (world.generation, len(world.users))
    assert report.user_categories == len(world.pairs)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


@pytest.mark.redis
@pytest.mark.parametrize("strings", [(), STRINGS[-1]])
def test_from_redis(
    redis_server_url: str, redis_namespace: str, tmp_path: Path, strings: tuple[str, ...]
) -> None:
    world = make_world("v1", strings=strings).publish(redis_server_url, redis_namespace)
    store = StoreAddress(redis_server_url, redis_namespace, tmp_path / "mirrors", 5000)
    TableExport(store, "v1", tmp_path / "out").run(lambda _: None)
    assert_is(tmp_path / "out", world)


def test_row_groups_are_bounded(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world("v1").publish(url)
    monkeypatch.setattr(export_table, "_GROUP_BYTES", 1)
    monkeypatch.setattr(export_table, "_ITEMS_AT_ONCE", 3)
    TableExport(StoreAddress(url), "v1", tmp_path / "out").run(lambda _: None)
    assert_is(tmp_path / "out", world)


def test_without_pairs(url: str, tmp_path: Path) -> None:
    replace(make_world("v1", category_dim=0), pairs={}).publish(url)
    TableExport(StoreAddress(url), "v1", tmp_path / "out").run(lambda _: None)
    pairs = read(tmp_path / "out" / "user_categories.parquet")
    assert (pairs.num_rows, pairs.schema.names) == (0, ["user_id", "category_id"])


def test_what_is_in_the_way(url: str, tmp_path: Path) -> None:
    make_world("v1").publish(url)
    store = StoreAddress(url)
    (tmp_path / "out").mkdir()
    TableExport(store, "v1", tmp_path / "out").run(lambda _: None)  # an empty folder is not
    for taken in (tmp_path / "out", tmp_path / "out" / "users.parquet"):
        with pytest.raises(TableFileError, match="is there already"):
            TableExport(store, "v1", taken)
    with pytest.raises(VersionNotFoundError):
        TableExport(store, "v2", tmp_path / "new")


def test_a_generation_that_goes_away(url: str, tmp_path: Path) -> None:
    world = make_world("v1", 1).publish(url)
    export = TableExport(StoreAddress(url), "v1", tmp_path / "out")
    for seed in (2, 3):
        make_world("v1", seed).publish(url)
    with pytest.raises(GenerationNotFoundError, match=world.generation):
        export.run(lambda _: None)
    assert not (tmp_path / "out").exists()


class OutsideOfItsDictionary(World):
    """A world whose pairs have categories that stand for no string."""

    def _user_block(self) -> UserBlock:
        block = super()._user_block()
        return replace(block, categories=block.categories + len(self._dictionary()))


def test_a_category_outside_of_the_dictionary(url: str, tmp_path: Path) -> None:
    OutsideOfItsDictionary(**vars(make_world(strings=("category",)))).publish(url)
    export = TableExport(StoreAddress(url), "v1", tmp_path / "out")
    with pytest.raises(GenerationCorruptError, match="a category is not in its dictionary"):
        export.run(lambda _: None)
    assert not (tmp_path / "out").exists()
