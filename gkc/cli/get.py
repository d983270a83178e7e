"""``gkc get``: one row, read from the store itself and explained part by part."""

from __future__ import annotations

import asyncio
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from gkc.arrays import I64, Bools
from gkc.cli.options import AsJson, Store, load, reader_of, whole_number
from gkc.cli.output import console
from gkc.errors import CommandError, VersionNotFoundError
from gkc.knowledge import ABSENT, DEFAULT, FOUND, PARTS
from gkc.service.encoding import encode_json
from gkc.service.loaded import LoadedGeneration
from gkc.service.lookup import KnowledgeLookup
from gkc.service.schemas import Columns, KnowledgeRequest, RowsAnswer
from gkc.settings import StoreSettings
from gkc.store import ItemBlock, KnowledgeReader

_SHOWN_VALUES = 4
_IN_WORDS = {ABSENT: "absent: zeros", FOUND: "found", DEFAULT: "default vector"}

_read_id = whole_number(-(2**63), 2**63 - 1)


def run(
    user: Annotated[int, typer.Option(parser=_read_id, metavar="ID", help="User id.")],
    item: Annotated[int, typer.Option(parser=_read_id, metavar="ID", help="Item id.")],
    version: Annotated[str, typer.Option(metavar="V", help="Version to ask.")],
    category: Annotated[
        int | None,
        typer.Option(parser=_read_id, metavar="ID", help="Category id; else the item's own."),
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Print the knowledge row of one user and item.

    --json prints the HTTP answer of that row.

    Example: gkc get --user 7 --item 11 --version 20211220
    """
    settings = load(StoreSettings, store_url=store)
    request = KnowledgeRequest(
        Columns(
            n=1,
            users=_one(user),
            items=_one(item),
            categories=_one(category or 0),
            has_category=np.array([category is not None]),
            versions=(version,),
            version_index=_one(0),
        )
    )
    answer = asyncio.run(_ask(reader_of(settings), request))
    if as_json:
        print(encode_json(answer).decode())
    else:
        _explain(answer, version)


class FetchedItems:
    """Items read from the store itself, in the place of a mapped table.

    Parameters
    ----------
    block : ItemBlock
        One row for each of ``block.ids``, which are distinct.
    is_known : ndarray, shape (n,), bool
    """

    def __init__(self, block: ItemBlock, is_known: Bools) -> None:
        self._block = block
        self._rows = {item: k for k, item in enumerate(block.ids.tolist()) if is_known[k]}
        self.size_bytes = block.k_i.nbytes

    def rows_of(self, ids: I64) -> I64:
        """Return the row of each item; -1 where unknown."""
        return np.array([self._rows.get(item, -1) for item in ids.tolist()], dtype=np.int64)

    def take(self, rows: I64) -> ItemBlock:
        """Return the items at these rows."""
        block = self._block
        return ItemBlock(
            block.ids[rows], block.k_i[rows], block.categories[rows], block.has_category[rows]
        )

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


async def _ask(reader: KnowledgeReader, request: KnowledgeRequest) -> RowsAnswer:
    """Answer one version's rows through the lookup of the service, without any mirror."""
    (version,) = request.columns.versions
    try:
        catalogue = await reader.catalogue()
        if catalogue is None:
            raise VersionNotFoundError(version, ())
        manifest = await reader.manifest(catalogue.version(version).current)
        items = FetchedItems(*await reader.fetch_items(manifest, request.columns.items))
        generations = {version: LoadedGeneration.of(manifest, items)}
        answer = await KnowledgeLookup(reader).answer(request, generations)
    finally:
        await reader.close()
    if not isinstance(answer, RowsAnswer):
        raise CommandError("only rows can be printed")
    return answer


def _explain(answer: RowsAnswer, version: str) -> None:
    row, status = answer.knowledge[0], answer.status[0]
    table = Table(title=f"version {version}, generation {answer.versions[version]}")
    for heading in ("part", "status", "columns", "first values", "norm"):
        table.add_column(heading)
    for part, (start, end) in answer.spans.items():
        values = row[start:end]
        first = " ".join(f"{value:.5g}" for value in values[:_SHOWN_VALUES])
        table.add_row(
            part,
            _IN_WORDS[int(status[PARTS.index(part)])],
            f"{start}:{end}",
            f"{first} …" if len(values) > _SHOWN_VALUES else first,
            f"{np.linalg.norm(values.astype(np.float64)):.5g}",
        )
    console().print(table)


def _one(value: int) -> I64:
    return np.array([value], dtype=np.int64)
