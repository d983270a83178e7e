"""A few items as a table of just those items, of the same form that serving reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace

from gkc.store.codec import ItemBlock
from gkc.store.generation import GenerationManifest
from gkc.store.ids import hash_ids
from gkc.store.table import ItemTable
from gkc.store.table_writer import ItemTableWriter, MemoryTarget

_WHERE: Final = "a table of a few items"


def table_of_items(
    manifest: GenerationManifest, block: ItemBlock, dictionary: Sequence[bytes]
) -> ItemTable:
    """Make a table of distinct items, in any order, and of all categories that are strings."""
    order = hash_ids(block.ids).argsort()
    id_bytes = 0
    if block.names is not None:
        names = np.array(block.names, dtype=object)
        order = np.lexsort((names, hash_ids(block.ids)))
        id_bytes = sum(map(len, block.names))
    shape = replace(manifest.spec, items=len(block.ids), item_id_bytes=id_bytes).item_shape
    target = MemoryTarget(shape.size_bytes())
    writer = ItemTableWriter(target, manifest.generation, shape, categories=dictionary)
    writer.append(block.take(order))
    return ItemTable(target.memory, writer.finish(), _WHERE)
