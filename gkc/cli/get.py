"""``gkc get``: one row, read from the store itself and explained part by part."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from gkc.center.checks import unfit_string
from gkc.center.generation import LoadedGeneration
from gkc.center.plan import Plan
from gkc.center.question import Columns, Question, RowsAnswer
from gkc.cli.options import AsJson, Store, load, read_store, shown, whole_number
from gkc.cli.output import console, printable
from gkc.http.encoding import encode_json
from gkc.knowledge import ABSENT, DEFAULT, FOUND, PARTS
from gkc.settings import StoreSettings
from gkc.store import Catalogue, GenerationSpec, KnowledgeReader
from gkc.strings import Ids, IdType, StringIds

_SHOWN_VALUES = 4
_IN_WORDS = {ABSENT: "absent: zeros", FOUND: "found", DEFAULT: "default vector"}

_read_id = whole_number(-(2**63), 2**63 - 1)


def run(
    user: Annotated[
        str,
        typer.Option(metavar="ID", help="User id: an integer or a string, by the version's type."),
    ],
    item: Annotated[str, typer.Option(metavar="ID", help="Item id.")],
    version: Annotated[str, typer.Option(metavar="V", help="Version to ask.")],
    category: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Category id; else the item's own."),
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Print the knowledge row of one user and item.

    --json prints the HTTP answer of that row.

    Example: gkc get --user 7 --item 11 --version 20211220
    """
    settings = load(StoreSettings, store_url=store)
    asked = {"--user": user, "--item": item}
    if category is not None:
        asked["--category"] = category
    columns, answer = read_store(settings, partial(_ask, asked=asked, version=version))
    if as_json:
        print(encode_json(answer).decode())
    else:
        _explain(answer, version, _title(columns))


async def _ask(
    reader: KnowledgeReader, asked: Mapping[str, str], version: str
) -> tuple[Columns, RowsAnswer]:
    """Answer one row through the lookup of the service, without any mirror; say what was asked."""
    catalogue = await reader.catalogue() or Catalogue()
    manifest = await reader.manifest(catalogue.version(version).current)
    question = _question(asked, manifest.spec)
    items = await reader.items_of(manifest, question.columns.items)
    plan = Plan(question, {version: LoadedGeneration.of(manifest, items)})
    answer = plan.finish([await reader.fetch_users(manifest, question.columns.users)])
    assert isinstance(answer, RowsAnswer)  # nothing else was asked for
    return question.columns, answer


def _title(columns: Columns) -> str:
    """Say of what ids a row is, as they were read."""
    user, item = _text(columns.users), _text(columns.items)
    category = columns.categories
    used = "the item's own category" if category is None else f"category {_text(category)}"
    return f"user {user}, item {item}, {used}"


def _text(ids: Ids) -> str:
    [read] = ids.tolist()
    return printable(read.decode()) if isinstance(read, bytes) else str(read)


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


def _question(asked: Mapping[str, str], spec: GenerationSpec) -> Question:
    """Return the question of one row, its ids of the version's types."""
    types = {
        "--user": spec.user_id_type,
        "--item": spec.item_id_type,
        "--category": spec.category_id_type,
    }
    ids = {option: _one(option, text, types[option]) for option, text in asked.items()}
    has_category = np.ones(1, dtype=np.bool_) if "--category" in ids else None
    index = np.zeros(1, dtype=np.int64)
    columns = (ids["--user"], ids["--item"], ids.get("--category"), has_category)
    return Question(Columns(1, *columns, (spec.version,), index))


def _one(option: str, text: str, id_type: IdType) -> Ids:
    """Return an option's value as a column of one id.

    Raises
    ------
    BadParameter
        If it is none of the version's type.
    """
    if id_type == "int64":
        try:
            return np.array([_read_id(text)], dtype=np.int64)
        except typer.BadParameter as exc:
            raise typer.BadParameter(
                f"{exc.message}; this version has numbers there", param_hint=option
            ) from exc
    ids = StringIds.of([text.encode(errors="surrogateescape")])  # the bytes that were typed
    if ids.first_unfit() is not None:
        raise typer.BadParameter(f"{shown(text)} {unfit_string(ids, 0)}", param_hint=option)
    return ids
