"""``gkc get``: one row, read from the store itself and explained part by part."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from gkc.arrays import I64
from gkc.center.generation import LoadedGeneration
from gkc.center.plan import Plan
from gkc.center.question import Columns, Question, RowsAnswer
from gkc.cli.options import AsJson, Store, load, read_store, whole_number
from gkc.cli.output import console
from gkc.http.encoding import encode_json
from gkc.knowledge import ABSENT, DEFAULT, FOUND, PARTS
from gkc.settings import StoreSettings
from gkc.store import Catalogue, KnowledgeReader

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
    question = Question(
        Columns(
            n=1,
            users=_one(user),
            items=_one(item),
            categories=None if category is None else _one(category),
            has_category=None if category is None else np.ones(1, dtype=np.bool_),
            versions=(version,),
            version_index=_one(0),
        )
    )
    answer = read_store(settings, partial(_ask, question=question))
    if as_json:
        print(encode_json(answer).decode())
    else:
        used = "the item's own category" if category is None else f"category {category}"
        _explain(answer, version, f"user {user}, item {item}, {used}")


async def _ask(reader: KnowledgeReader, question: Question) -> RowsAnswer:
    """Answer one version's rows through the lookup of the service, without any mirror."""
    (version,) = question.columns.versions
    catalogue = await reader.catalogue() or Catalogue()
    manifest = await reader.manifest(catalogue.version(version).current)
    items = await reader.items_of(manifest, question.columns.items)
    plan = Plan(question, {version: LoadedGeneration.of(manifest, items)})
    answer = plan.finish([await reader.fetch_users(manifest, question.columns.users)])
    assert isinstance(answer, RowsAnswer)  # nothing else was asked for
    return answer


def _explain(answer: RowsAnswer, version: str, question: str) -> None:
    row, status = answer.knowledge[0], answer.status[0]
    title = f"{question}\nversion {version}, generation {answer.versions[version]}"
    table = Table("part", "status", "columns", "first values", "norm", title=title)
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
