"""What the models are fed: columns matched with inputs, then all rows, cut in stored order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from exporter.bundle import Bundle
from exporter.errors import BundleError, FeatureTableError, ModelOutputError
from exporter.manifest import (
    ID_COLUMNS,
    MANIFEST,
    MODEL_KINDS,
    TABLE_KINDS,
    TABLE_OF,
    ModelKind,
    Number,
    TableKind,
    UnknownValue,
    bad_key,
)
from exporter.models import InferenceError, Model, ModelInput, new_pool
from exporter.partitions import (
    PartitionedTable,
    TableRows,
    Tables,
    check_partitions,
    partition_tables,
)
from exporter.tables import TEXT, Feature, FeatureTable, Values, blank, cast_values, type_name
from gkc.arrays import I64, Bools
from gkc.errors import NotStorableError
from gkc.store import Defaults, ElementType, encode_vectors

_BATCH_ITEMS: Final = 8192
_BATCH_USERS: Final = 4096
_BATCH_PAIRS: Final = 16_384
_BATCH_BYTES: Final = 16 << 20
"""Of the inputs of one model, for tables with lists so long that fewer rows are enough."""
_MOST_ROW_BYTES: Final = 64 << 20
"""Of a model's inputs; a padded list of eight million ids is no feature that anybody means."""
_LONGEST: Final = 0
_REMEDY: Final = "cast the column, or give the model an input of its type"

Chosen = Mapping[TableKind, tuple[TableRows, I64]]
"""Loaded rows of each table, and which of them each of n input rows takes, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Feed:
    """How one input of a model is fed.

    Attributes
    ----------
    input : ModelInput
    table : {"users", "items", "user_categories"}
    feature : Feature
    width : int
        Elements of a row: 1 of a scalar; of a list, what it is padded to. `plan_feeds` gives 0
        where the table's longest list decides, which is known when the table has been read.
    """

    input: ModelInput
    table: TableKind
    feature: Feature
    width: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of this input."""
        return self.feature.dtype.itemsize * self.width

    def gather(self, rows: TableRows, places: I64) -> Values:
        """Return the input for some of a table's rows."""
        key = self.feature.key
        if self.feature.is_list:
            values = rows.lists[key].padded(places, self.width)
        else:
            values = self._shaped(rows.numbers[key][places])
        return rows.words[key][values] if self.feature.is_text else values

    def of_unknown(self, value: UnknownValue) -> Values:
        """Return the input of one row for a value of the manifest; null is an empty list, or blank.

        Raises
        ------
        BundleError
            If it is not what the column holds, or does not fit the input's type.
        """
        dtype = self.feature.dtype
        if value is None:
            value = [] if self.feature.is_list else blank(dtype)
        elements = value if isinstance(value, list) else [value]
        fits = isinstance(value, list) == self.feature.is_list
        if not fits or any(isinstance(e, str) != self.feature.is_text for e in elements):
            raise self._misfit(value)
        values = np.array(elements, TEXT) if self.feature.is_text else _cast(elements, dtype)
        if values is None:
            raise self._misfit(value)
        if not self.feature.is_list:
            return self._shaped(values)
        kept = values[-self.width :]
        row = np.full((1, self.width), blank(dtype), dtype)
        row[0, : len(kept)] = kept
        return row

    def _shaped(self, values: Values) -> Values:
        return values[:, np.newaxis] if self.input.rank == 2 else values

    def _misfit(self, value: UnknownValue) -> BundleError:
        return BundleError(
            MANIFEST,
            f"'unknown' gives {self.feature.column!r} the value {value!r}, "
            f"which does not fit {self.feature.fed_to}",
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A bundle read and found right, its rows waiting in partitions; valid in `prepare`'s block.

    Attributes
    ----------
    bundle : Bundle
    models : mapping of model kind to Model
    feeds : mapping of model kind to list of Feed
    tables : mapping of table kind to PartitionedTable
    """

    bundle: Bundle
    models: Mapping[ModelKind, Model]
    feeds: Mapping[ModelKind, list[Feed]]
    tables: Mapping[TableKind, PartitionedTable]

    def row_bytes(self, kind: ModelKind) -> int:
        """Return how many bytes one row of a model's inputs takes."""
        return sum(feed.row_bytes for feed in self.feeds[kind])

    def inputs(self, kind: ModelKind, chosen: Chosen) -> dict[str, Values]:
        """Gather a model's inputs, by name."""
        return {feed.input.name: feed.gather(*chosen[feed.table]) for feed in self.feeds[kind]}


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
    tables = {kind: FeatureTable(bundle, kind) for kind in TABLE_KINDS}
    for kind, columns in ID_COLUMNS.items():
        for column in columns:
            tables[kind].require_ids(column)
    with new_pool() as pool:
        models = {kind: Model(bundle, kind, tables[TABLE_OF[kind]], pool) for kind in MODEL_KINDS}
        planned = {kind: plan_feeds(bundle, models[kind], tables) for kind in MODEL_KINDS}
        _refuse_idle_pads(bundle, planned, tables)
        with partition_tables(tables, _features(planned), progress) as partitioned:
            feeds = {
                kind: [_of_width(feed, partitioned[feed.table]) for feed in planned[kind]]
                for kind in MODEL_KINDS
            }
            prepared = Prepared(bundle, models, feeds, partitioned)
            _check_widths(prepared)
            check_partitions(partitioned, max_pairs_per_user)
            yield prepared


def plan_feeds(bundle: Bundle, model: Model, tables: Tables) -> list[Feed]:
    """Match a model's inputs with columns.

    A column of the user_category model is looked for among the pairs first, then among the users.

    Raises
    ------
    FeatureTableError
        If a column is missing, or holds nothing that feeds the input.
    BundleError
        If a column's shape does not fit the input.
    """
    return [_feed(bundle, model, node, _table_of(model, node, tables)) for node in model.inputs]


def _table_of(model: Model, node: ModelInput, tables: Tables) -> FeatureTable:
    if model.kind == "user_category" and not model.table.has_column(node.column):
        return tables["users"]
    return model.table


def _feed(bundle: Bundle, model: Model, node: ModelInput, table: FeatureTable) -> Feed:
    column, what = node.column, f"input {node.name!r} of {model.file}"
    content = table.content(column)
    if content is not None and not content.feeds(node.dtype):
        problem = f"holds {content.described}, but {what} takes {type_name(node.dtype)}"
        raise FeatureTableError(content.file, f"{problem}: {_REMEDY}", column=column)
    is_list = content.is_list if content else node.rank == 2 and node.width != 1
    if is_list and node.rank == 1:
        problem = f"{what} has one dimension, but its column {column!r} holds lists"
        raise BundleError(MANIFEST, problem)
    if not is_list and node.width not in (None, 1):
        problem = f"{what} is {node.width} wide, but its column {column!r} holds no lists"
        raise BundleError(MANIFEST, problem)
    width = (node.width or bundle.manifest.pad.get(column, _LONGEST)) if is_list else 1
    return Feed(node, table.kind, Feature(column, node.dtype, is_list, what), width)


def _cast(numbers: Sequence[Number | str], dtype: np.dtype[Any]) -> Values | None:
    """Give numbers of the manifest the type that an input takes; None if one does not fit."""
    values = np.asarray(numbers)
    try:
        if values.dtype.kind == "O":  # an integer beyond 64 bits
            values = values.astype(np.float64)
        cast, unfit = cast_values(values, dtype)
    except OverflowError:
        return None
    return cast if unfit is None else None


def _refuse_idle_pads(
    bundle: Bundle, feeds: Mapping[ModelKind, list[Feed]], tables: Tables
) -> None:
    """Refuse a length for a column that holds no lists wherever a model reads it."""
    read_in = {(feed.feature.column, feed.table) for kind in MODEL_KINDS for feed in feeds[kind]}
    for padded in bundle.manifest.pad:
        contents = [tables[table].content(column) for column, table in read_in if column == padded]
        if all(content is not None and not content.is_list for content in contents):
            raise bad_key(f"pad.{padded}", "is no column of lists")


def _features(feeds: Mapping[ModelKind, list[Feed]]) -> dict[TableKind, list[Feature]]:
    """Return each distinct feature that some feed takes from a table."""
    features: dict[TableKind, dict[str, Feature]] = {kind: {} for kind in TABLE_KINDS}
    for feed in (feed for of_model in feeds.values() for feed in of_model):
        features[feed.table][feed.feature.key] = feed.feature
    return {kind: list(by_key.values()) for kind, by_key in features.items()}


def _of_width(feed: Feed, table: PartitionedTable) -> Feed:
    if feed.width == _LONGEST:
        return replace(feed, width=table.longest[feed.feature.column])
    return feed


def _check_widths(prepared: Prepared) -> None:
    """Refuse lists so long that not even a few rows of a model's inputs fit into memory."""
    for kind, feeds in prepared.feeds.items():
        widest = max(feeds, key=lambda feed: feed.row_bytes)
        if prepared.row_bytes(kind) > _MOST_ROW_BYTES:
            raise BundleError(
                prepared.models[kind].file,
                f"each row of input {widest.input.name!r} would be padded to {widest.width:,} "
                f"elements; give {widest.feature.column!r} a smaller length in 'pad' of the "
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
    if category is not None and type(category) is not int:
        raise bad_key("unknown.item.category_id", f"is {category!r}, but ids are whole numbers")
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


def unknown_inputs(feeds: list[Feed], row: Mapping[str, UnknownValue]) -> dict[str, Values]:
    """Turn the manifest's row for unknown ids, by column, into a model's inputs of one row."""
    return {feed.input.name: feed.of_unknown(row[feed.feature.column]) for feed in feeds}


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
    """

    ids: I64
    rows: I64
    categories: I64
    has_category: Bools
    inputs: dict[str, Values]
    skip: int = 0


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
    """

    ids: I64
    rows: I64
    pair_offsets: I64
    categories: I64
    pair_rows: I64
    user_inputs: dict[str, Values]
    pair_inputs: dict[str, Values]
    skip: int = 0


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
    )


def user_batches(prepared: Prepared, skip: int) -> Iterator[UserBatch]:
    """Yield all users with their pairs but batches that lie whole within the first ``skip``."""
    table, pair_table = prepared.tables["users"], prepared.tables["user_categories"]
    most_users = _most_rows(prepared, "user", _BATCH_USERS)
    most_pairs = _most_rows(prepared, "user_category", _BATCH_PAIRS)
    for partition, stored in _pending(table.sizes, skip):
        # Not in one line, which would hold the former partition until both of the next are read.
        users = table.load(partition)
        pairs = pair_table.load(partition)
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
    return _offsets(np.bincount(users.owners(pairs.ids), minlength=len(users.ids)))


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
    )
