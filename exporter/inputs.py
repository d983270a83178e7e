"""What the models are fed: a bundle read and checked, then all rows, cut in stored order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from exporter.bundle import Bundle
from exporter.errors import BundleError, FeatureTableError, ModelOutputError
from exporter.features import Feature, Values
from exporter.feeds import Chosen, Feed, plan_feeds, unknown_inputs
from exporter.manifest import (
    MANIFEST,
    MODEL_KINDS,
    TABLE_OF,
    ModelKind,
    TableKind,
    UnknownValue,
    bad_key,
)
from exporter.models import Model
from exporter.partitions import (
    NO_ROWS,
    IdTypes,
    PartitionedTable,
    TableRows,
    Tables,
    check_partitions,
    partition_tables,
)
from exporter.sessions import InferenceError, Sessions
from exporter.tables import FeatureTable
from gkc.arrays import I64, Bools
from gkc.errors import NotStorableError
from gkc.store import Defaults, ElementType, encode_vectors
from gkc.strings import MAX_STRING_BYTES, IdType

_BATCH_ITEMS: Final = 8192
_BATCH_USERS: Final = 4096
_BATCH_PAIRS: Final = 16_384
_BATCH_BYTES: Final = 16 << 20
"""Of the inputs of one model, for tables with lists so long that fewer rows are enough."""
_MOST_ROW_BYTES: Final = 64 << 20
"""Of a model's inputs; a padded list of eight million ids is no feature that anybody means."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A bundle read and found right, its rows waiting in partitions; valid in `prepare`'s block.

    Attributes
    ----------
    bundle : Bundle
    models : mapping of model kind to Model
        Without user_category, if the bundle has none; the same is true of feeds and tables.
    sessions : Sessions
        In which the models run.
    feeds : mapping of model kind to list of Feed
    tables : mapping of table kind to PartitionedTable
    id_types : IdTypes
    """

    bundle: Bundle
    models: Mapping[ModelKind, Model]
    sessions: Sessions
    feeds: Mapping[ModelKind, list[Feed]]
    tables: Mapping[TableKind, PartitionedTable]
    id_types: IdTypes

    @property
    def categories(self) -> list[bytes]:
        """All categories in ascending order of their bytes, where they are strings."""
        return self.id_types.categories.names()

    def row_bytes(self, kind: ModelKind) -> int:
        """Return how many bytes one row of a model's inputs takes."""
        return sum(feed.row_bytes for feed in self.feeds.get(kind, []))

    def rows(self, kind: TableKind) -> int:
        """Return how many rows a table has; none if the bundle is without it."""
        return self.tables[kind].source.rows if kind in self.tables else 0

    def pairs(self, partition: int) -> TableRows:
        """Read the pairs of one partition's users; none if the bundle is without them."""
        table = self.tables.get("user_categories")
        return table.load(partition) if table else NO_ROWS

    def inputs(self, kind: ModelKind, chosen: Chosen) -> dict[str, Values]:
        """Gather a model's inputs, by name."""
        return {feed.input.name: feed.gather(chosen) for feed in self.feeds.get(kind, [])}


@contextmanager
def prepare(
    bundle: Bundle, max_pairs_per_user: int, progress: Callable[[int], None]
) -> Iterator[Prepared]:
    """Load models, check schemas, read and check the tables; give what an export needs.

    Parameters
    ----------
    bundle : Bundle
    max_pairs_per_user : int
    progress : callable
        Is given the rows read; each row of each table counts once.

    Raises
    ------
    BundleError, FeatureTableError
        At the first thing in the bundle that cannot be exported.
    """
    tables = {kind: FeatureTable(bundle, kind) for kind in bundle.tables}
    id_types = _id_types(tables)
    with Sessions() as sessions:
        models = {
            kind: Model(bundle, kind, tables[TABLE_OF[kind]], sessions) for kind in bundle.models
        }
        planned = {kind: plan_feeds(bundle, model, tables) for kind, model in models.items()}
        # Behind the feeds: strings that feed numbers are the fault, not the number in 'unknown'.
        _add_unknown_category(bundle, id_types)
        _refuse_idle_pads(bundle, planned, tables)
        features = _features(planned, tables)
        with partition_tables(tables, features, id_types, progress) as partitioned:
            feeds = {
                kind: [feed.of_known_width(partitioned) for feed in of_model]
                for kind, of_model in planned.items()
            }
            prepared = Prepared(bundle, models, sessions, feeds, partitioned, id_types)
            _check_widths(prepared)
            check_partitions(partitioned, max_pairs_per_user)
            yield prepared


def _id_types(tables: Tables) -> IdTypes:
    """Return what the ids of each kind are, alike in all tables; integers where nothing tells."""
    types: dict[str, tuple[TableKind, IdType]] = {}
    for kind, table in tables.items():
        for column in table.id_columns:
            id_type = table.id_type(column)
            if id_type is None:
                continue
            known = types.setdefault(column, (kind, id_type))
            if known[1] != id_type:
                raise FeatureTableError(
                    table.locate(0)[0],
                    f"ids are {id_type} here, but {known[1]} in the {known[0]} table; "
                    "write both alike",
                    column=column,
                )
    user, item, category = (
        types[column][1] if column in types else "int64"
        for column in ("user_id", "item_id", "category_id")
    )
    return IdTypes(user, item, category)


def _add_unknown_category(bundle: Bundle, id_types: IdTypes) -> None:
    """Put the category of unknown items among those of the tables, once it is of their type."""
    own = bundle.unknown.get("item", {}).get("category_id")
    if own is not None:
        _check_unknown_category(own, id_types.category)
        if isinstance(own, str):
            id_types.categories.add(pa.array([own], pa.large_string()))


def _check_unknown_category(category: UnknownValue, id_type: IdType) -> None:
    if id_type == "int64":
        if type(category) is not int:
            problem = f"is {category!r}, but ids are whole numbers"
            raise bad_key("unknown.item.category_id", problem)
    elif not isinstance(category, str) or not 1 <= len(category.encode()) <= MAX_STRING_BYTES:
        problem = f"is {category!r}, but ids are strings of 1 to {MAX_STRING_BYTES} bytes"
        raise bad_key("unknown.item.category_id", f"{problem}; name one, or null for none")


def _refuse_idle_pads(
    bundle: Bundle, feeds: Mapping[ModelKind, list[Feed]], tables: Tables
) -> None:
    """Refuse a length for a column that holds no lists wherever a model reads it."""
    sources = [
        source for of_model in feeds.values() for feed in of_model for source in feed.sources
    ]
    read_in = {(source.feature.column, source.table) for source in sources}
    for padded in bundle.manifest.pad:
        contents = [tables[table].content(column) for column, table in read_in if column == padded]
        if all(content is not None and not content.is_list for content in contents):
            raise bad_key(f"pad.{padded}", "is no column of lists")


def _features(
    feeds: Mapping[ModelKind, list[Feed]], tables: Tables
) -> dict[TableKind, list[Feature]]:
    """Return each distinct feature that some feed takes from a table."""
    features: dict[TableKind, dict[str, Feature]] = {kind: {} for kind in tables}
    for source in (s for of_model in feeds.values() for feed in of_model for s in feed.sources):
        features[source.table][source.feature.key] = source.feature
    return {kind: list(by_key.values()) for kind, by_key in features.items()}


def _check_widths(prepared: Prepared) -> None:
    """Refuse lists so long that not even a few rows of a model's inputs fit into memory."""
    for kind, feeds in prepared.feeds.items():
        widest = max(feeds, key=lambda feed: feed.row_bytes)
        if prepared.row_bytes(kind) > _MOST_ROW_BYTES:
            raise BundleError(
                prepared.models[kind].file,
                f"each row of input {widest.input.name!r} would be padded to {widest.width:,} "
                f"elements; give {widest.input.columns[0]!r} a smaller length in 'pad' of the "
                "manifest",
            )


def default_vectors(prepared: Prepared, element_type: ElementType) -> Defaults:
    """Run the manifest's rows for unknown ids through their models.

    Raises
    ------
    BundleError
        If a row does not fit the model's inputs.
    ModelOutputError
        If an output is no vector that can be stored.
    """
    category = prepared.bundle.unknown.get("item", {}).get("category_id")
    if isinstance(category, str):
        category = prepared.categories.index(category.encode())
    assert category is None or isinstance(category, int)  # it was checked
    return Defaults(
        **{kind: _default(prepared, kind, element_type) for kind in MODEL_KINDS},
        item_category=category,
    )


def _default(prepared: Prepared, kind: ModelKind, element_type: ElementType) -> bytes | None:
    row = prepared.bundle.unknown.get(kind)
    if row is None:
        return None
    model, feeds = prepared.models[kind], prepared.feeds[kind]
    inputs = unknown_inputs(feeds, row)
    try:
        return encode_vectors(model.run(inputs), element_type).tobytes()
    except (InferenceError, NotStorableError) as exc:
        raise ModelOutputError(
            model.file, model.output, f"{MANIFEST}, 'unknown.{kind}'", None, str(exc)
        ) from exc


@dataclass(frozen=True, slots=True)
class ItemBatch:
    """Items in stored order, with what the item model takes.

    Attributes
    ----------
    ids, rows : ndarray, shape (n,), int64
        Ids, and where in the whole table they stood.
    categories : ndarray, shape (n,), int64
    has_category : ndarray, shape (n,), bool
    inputs : dict of str to ndarray, shape (n,) or (n, width)
    skip : int
        Leading rows that the store already has.
    names : list of bytes, length n, or None
        The ids themselves where they are strings; `ids` are their keys then.
    """

    ids: I64
    rows: I64
    categories: I64
    has_category: Bools
    inputs: dict[str, Values]
    skip: int = 0
    names: list[bytes] | None = None


@dataclass(frozen=True, slots=True)
class UserBatch:
    """Users in stored order and all their pairs, with what both models take.

    Attributes
    ----------
    ids, rows : ndarray, shape (n,), int64
    pair_offsets : ndarray, shape (n + 1,), int64
        The pairs of user ``k`` are ``pair_offsets[k]`` to ``pair_offsets[k + 1]``.
    categories, pair_rows : ndarray, shape (P,), int64
        Categories ascending within a user, and where in the whole table of pairs they stood.
    user_inputs, pair_inputs : dict of str to ndarray, shape (n or P,) or (n or P, width)
    skip : int
        Leading users that the store already has.
    names : list of bytes, length n, or None
        As of `ItemBatch`.
    """

    ids: I64
    rows: I64
    pair_offsets: I64
    categories: I64
    pair_rows: I64
    user_inputs: dict[str, Values]
    pair_inputs: dict[str, Values]
    skip: int = 0
    names: list[bytes] | None = None


def item_batches(prepared: Prepared, skip: int) -> Iterator[ItemBatch]:
    """Yield all items but batches that lie whole within the first ``skip``.

    A batch that is partly stored comes whole, so that models see the same batches on resuming.
    """
    table = prepared.tables["items"]
    most = _most_rows(prepared, "item", _BATCH_ITEMS)
    for partition, stored in _pending(table.sizes, skip):
        items = table.load(partition)
        for start in range(0, len(items.ids), most):
            places = np.arange(start, min(start + most, len(items.ids)), dtype=np.int64)
            if start + len(places) > stored:
                yield items_at(prepared, items, places, max(0, stored - start))


def items_at(prepared: Prepared, items: TableRows, places: I64, skip: int = 0) -> ItemBatch:
    """Gather some of a partition's items."""
    return ItemBatch(
        items.ids[places],
        items.rows[places],
        items.categories[places],
        items.has_category[places],
        prepared.inputs("item", {"items": (items, places)}),
        skip,
        items.names_at(places),
    )


def user_batches(prepared: Prepared, skip: int) -> Iterator[UserBatch]:
    """Yield all users with their pairs but batches that lie whole within the first ``skip``."""
    table = prepared.tables["users"]
    most_users = _most_rows(prepared, "user", _BATCH_USERS)
    most_pairs = _most_rows(prepared, "user_category", _BATCH_PAIRS)
    for partition, stored in _pending(table.sizes, skip):
        # Not in one line, which would hold the former partition until both of the next are read.
        users = table.load(partition)
        pairs = prepared.pairs(partition)
        offsets = pair_offsets(users, pairs)
        for start, end in _user_spans(offsets, most_users, most_pairs):
            if end > stored:
                places = np.arange(start, end, dtype=np.int64)
                yield users_at(prepared, users, pairs, offsets, places, max(0, stored - start))


def _pending(sizes: I64, skip: int) -> Iterator[tuple[int, int]]:
    """Yield partitions beyond the first ``skip`` rows, and how many rows of each lie within."""
    for partition, size in enumerate(sizes.tolist()):
        if size > skip:
            yield partition, skip
        skip = max(0, skip - size)


def pair_offsets(users: TableRows, pairs: TableRows) -> I64:
    """Return where each user's pairs begin among sorted pairs, shape (n + 1,), int64."""
    return _offsets(np.bincount(users.owners(pairs), minlength=len(users.ids)))


def _offsets(counts: I64) -> I64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _most_rows(prepared: Prepared, kind: ModelKind, rows: int) -> int:
    return max(1, min(rows, _BATCH_BYTES // max(1, prepared.row_bytes(kind))))


def _user_spans(offsets: I64, most_users: int, most_pairs: int) -> Iterator[tuple[int, int]]:
    """Yield spans of users bounded in users and pairs, of at least one user each."""
    start, users = 0, len(offsets) - 1
    while start < users:
        fits = int(np.searchsorted(offsets, offsets[start] + most_pairs, side="right")) - 1
        end = min(users, start + most_users, max(fits, start + 1))
        yield start, end
        start = end


def users_at(
    prepared: Prepared, users: TableRows, pairs: TableRows, offsets: I64, places: I64, skip: int = 0
) -> UserBatch:
    """Gather some of a partition's users and all their pairs.

    Parameters
    ----------
    prepared : Prepared
    users, pairs : TableRows
        Of one partition.
    offsets : ndarray, shape (users + 1,), int64
        As `pair_offsets` gives them.
    places : ndarray, shape (n,), int64
        Which users.
    skip : int
        Leading users of the batch that the store already has.
    """
    counts = offsets[places + 1] - offsets[places]
    batch_offsets = _offsets(counts)
    owner = np.repeat(places, counts)
    pair_places = np.arange(batch_offsets[-1]) - np.repeat(
        batch_offsets[:-1] - offsets[places], counts
    )
    chosen: Chosen = {"users": (users, owner), "user_categories": (pairs, pair_places)}
    return UserBatch(
        users.ids[places],
        users.rows[places],
        batch_offsets,
        pairs.categories[pair_places],
        pairs.rows[pair_places],
        prepared.inputs("user", {"users": (users, places)}),
        prepared.inputs("user_category", chosen),
        skip,
        users.names_at(places),
    )
