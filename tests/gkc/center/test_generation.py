"""A generation ready to answer."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gkc.center.generation import LoadedGeneration
from gkc.errors import GenerationCorruptError
from gkc.store import Defaults, GenerationManifest, GenerationSpec, ItemTable, Totals, open_reader
from tests.gkc.world import Worlds


def manifest(**totals: float) -> GenerationManifest:
    spec = GenerationSpec("v", "f32", 2, 1, 0, 0, 0, "b", "f")
    return GenerationManifest("g", spec, spec.layout, Totals(**totals))  # type: ignore[arg-type]


@pytest.fixture
async def items(worlds: Worlds) -> ItemTable:
    reader = open_reader(worlds.url)
    catalogue = await reader.catalogue()
    assert catalogue is not None
    stored = await reader.manifest(catalogue.versions["half"].current)
    return await reader.item_table(stored, 0)


def test_a_default_vector_of_another_width_is_damage(items: ItemTable) -> None:
    given = manifest()
    given = replace(given, spec=replace(given.spec, defaults=Defaults(item=bytes(12))))
    with pytest.raises(GenerationCorruptError, match="default vector"):
        LoadedGeneration.of(given, items)


@pytest.mark.parametrize(
    ("user", "item", "f16", "f32"),
    [
        (200.0, 300.0, set(), set()),
        (1.0, 65519.99, set(), set()),
        (1.0, 65520.0, {"item", "user_item"}, set()),
        (256.0, 256.0, {"user_item"}, set()),
        (1e20, 1e20, {"user", "item", "user_item"}, {"user_item"}),
    ],
)
def test_parts_that_may_overflow(
    items: ItemTable, user: float, item: float, f16: set[str], f32: set[str]
) -> None:
    loaded = LoadedGeneration.of(manifest(largest_user=user, largest_item=item), items)
    assert set(loaded.overflowing["f16"]) == f16
    assert set(loaded.overflowing["f32"]) == f32
