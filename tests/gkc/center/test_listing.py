"""The list of versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from gkc.center.listing import version_list
from gkc.errors import CatalogueLostError
from gkc.store import Origin, open_reader
from tests.gkc.world import Worlds, make_world


def test_no_catalogue_lists_nothing() -> None:
    listed = version_list(None, lambda *_: True)
    assert (listed.max_versions, listed.versions) == (5, [])


async def test_versions_are_described_newest_first(worlds: Worlds) -> None:
    reader = open_reader(worlds.url)
    catalogue = await reader.catalogue()
    assert catalogue is not None
    listed = version_list(catalogue, lambda version, _: version == "half")
    assert [v.version for v in listed.versions] == catalogue.newest_first()
    assert [v.version for v in listed.versions if v.ready] == ["half"]
    half = listed.versions[-1]
    assert (half.version, half.generation) == ("half", worlds["half"].generation)
    assert (half.users, half.items, half.dim, half.category_dim, half.dtype) == (7, 10, 4, 3, "f16")
    assert half.bytes > 0
    entry = replace(catalogue.generations[half.generation], summary=None)
    damaged = replace(catalogue, generations={**catalogue.generations, half.generation: entry})
    with pytest.raises(CatalogueLostError, match=half.generation):
        version_list(damaged, lambda *_: True)


async def test_where_vectors_come_from_is_told_as_far_as_the_bundle_tells(worlds: Worlds) -> None:
    catalogue = await open_reader(worlds.url).catalogue()
    assert catalogue is not None
    plain = to_builtins(version_list(catalogue, lambda *_: True))["versions"][0]
    assert not {"compatible_with", "tasks", "run", "data_until", "origin"} & plain.keys()
    entry = catalogue.generations[plain["generation"]]
    assert entry.summary is not None
    told: dict[str, Any] = {
        "compatible_with": [{"checkpoint": "ckpt", "day": 6}],
        "tasks": [{"name": "click", "dim": 4}],
        "task_weights": [[1.0, 0.5, 0.0, 2.0]],
        "vector_space": "keep-2021",
        "data_until": "2021-12-20T00:00:00+08:00",
        "run": {"id": "r1"},
    }
    mapped = replace(entry, summary=replace(entry.summary, origin=Origin(**told)))
    changed = replace(catalogue, generations={**catalogue.generations, plain["generation"]: mapped})
    [found, *_] = to_builtins(version_list(changed, lambda *_: True))["versions"]
    assert {key: found[key] for key in told} == told


async def test_types_of_ids_are_told(tmp_path: Path) -> None:
    url = f"file:{tmp_path}"
    make_world(strings=("user", "category")).publish(url)
    listed = to_builtins(version_list(await open_reader(url).catalogue(), lambda *_: True))
    [version] = listed["versions"]
    assert version["id_types"] == {"user": "string", "item": "int64", "category": "string"}
