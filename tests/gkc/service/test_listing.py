"""The list of versions."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gkc.errors import CatalogueLostError
from gkc.service.listing import version_list
from gkc.store import open_reader
from tests.gkc.service.world import Worlds


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


async def test_versions_it_is_compatible_with_are_told_where_there_are_some(worlds: Worlds) -> None:
    catalogue = await open_reader(worlds.url).catalogue()
    assert catalogue is not None
    plain = version_list(catalogue, lambda *_: True).model_dump()["versions"][0]
    assert "compatible_with" not in plain
    entry = catalogue.generations[plain["generation"]]
    assert entry.summary is not None
    told = [{"checkpoint": "ckpt", "day": 6}]
    mapped = replace(entry, summary=replace(entry.summary, compatible_with=told))
    changed = replace(catalogue, generations={**catalogue.generations, plain["generation"]: mapped})
    [found, *_] = version_list(changed, lambda *_: True).model_dump()["versions"]
    assert found["compatible_with"] == told
