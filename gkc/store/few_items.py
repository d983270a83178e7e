"""A few items as a table of just those items, of the same form that serving reads."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from gkc.store.codec import ItemBlock
from gkc.store.generation import GenerationManifest
from gkc.store.ids import hash_ids
from gkc.store.table import ItemTable
from gkc.store.table_writer import ItemTableWriter, MemoryTarget

_WHERE: Final = "a table of a few items"


def table_of_items(manifest: GenerationManifest, block: ItemBlock) -> ItemTable:
    """Make a table of distinct items, numbers by id, in any order."""
    shape = replace(manifest.spec, items=len(block.ids)).item_shape
    target = MemoryTarget(shape.size_bytes())
    writer = ItemTableWriter(target, manifest.generation, shape)
    writer.append(block.take(hash_ids(block.ids).argsort()))
    return ItemTable(target.memory, writer.finish(), _WHERE)
