"""Read a bundle's tables once, before any model runs: check every value, partition rows by hash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from exporter.bundle import Bundle
from exporter.errors import BundleError
from exporter.features import Feature, Values
from exporter.feeds import Feed, Tables, plan_feeds
from exporter.inference import Model, new_pool
from exporter.manifest import MODEL_KINDS, TABLE_KINDS, ModelKind, TableKind
from exporter.partitions import Rows, load_rows
from exporter.spill import CATEGORY, KEY, ROW, Spill, partition_count
from exporter.tables import FeatureTable
from gkc.arrays import I64

_PARTITION_ROWS: Final = 25_000
_PARTITION_PAIRS: Final = 500_000
_PARTITION_BYTES: Final = 32 << 20
_MOST_ROW_BYTES: Final = 64 << 20
"""Of a model's inputs; a padded list of eight million ids is no feature that anybody means."""

Progress = Callable[[int], None]
"""Told how many more rows are done."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A bundle found right, its rows waiting in partitions; valid inside `prepare`'s block.

    Attributes
    ----------
    bundle : Bundle
    models : mapping of model kind to Model
    feeds : mapping of model kind to list of Feed
    tables : mapping of table kind to FeatureTable
    spills : mapping of table kind to Spill
        Users and pairs have the same partitions.
    longest : mapping of (table kind, column) to int
        Length of each list column's longest list, at least 1.
    """

    bundle: Bundle
    models: Mapping[ModelKind, Model]
    feeds: Mapping[ModelKind, list[Feed]]
    tables: Tables
    spills: Mapping[TableKind, Spill]
    longest: dict[tuple[TableKind, str], int] = field(default_factory=dict)

    def load(self, table: TableKind, partition: int) -> Rows:
        """Read one partition of a table, sorted as stores want it."""
        return load_rows(self.spills[table].read(partition), self.features(table))

    def features(self, table: TableKind) -> list[Feature]:
        """Return the features that any model takes from a table."""
        return features_of(self.feeds, table)

    def row_bytes(self, kind: ModelKind) -> int:
        """Return how many bytes one row of a model's inputs takes."""
        return sum(map(self.feed_bytes, self.feeds[kind]))

    def feed_bytes(self, feed: Feed) -> int:
        """Return how many bytes one row of an input takes."""
        return feed.feature.dtype.itemsize * self._width(feed)

    def _width(self, feed: Feed) -> int:
        if not feed.feature.is_list:
            return 1
        return feed.width or self.longest[feed.table, feed.feature.column]

    def inputs(
        self, kind: ModelKind, chosen: Mapping[TableKind, tuple[Rows, I64]]
    ) -> dict[str, Values]:
        """Gather a model's inputs.

        Parameters
        ----------
        kind : model kind
        chosen : mapping of table kind to (Rows, ndarray of shape (n,), int64)
            The loaded rows of each table, and which of them each of the n input rows takes.
        """
        inputs: dict[str, Values] = {}
        for feed in self.feeds[kind]:
            rows, places = chosen[feed.table]
            if feed.feature.is_list:
                lists = rows.lists[feed.feature.key]
                inputs[feed.input.name] = lists.padded(places, self._width(feed))
            else:
                inputs[feed.input.name] = feed.shaped(rows.numbers[feed.feature.key][places])
        return inputs


def features_of(feeds: Mapping[ModelKind, list[Feed]], table: TableKind) -> list[Feature]:
    """Return each distinct feature that some feed takes from a table."""
    found = {f.feature.key: f.feature for fs in feeds.values() for f in fs if f.table == table}
    return list(found.values())


@contextmanager
def prepare(bundle: Bundle, max_pairs_per_user: int, progress: Progress) -> Iterator[Prepared]:
    """Load models, check schemas, read and check the tables; give what an export needs.

    Parameters
    ----------
    bundle : Bundle
    max_pairs_per_user : int
    progress : callable
        Told the rows read; each row of each table counts once.

    Raises
    ------
    BundleError, FeatureTableError
        At the first thing in the bundle that cannot be exported.
    """
    tables = {kind: FeatureTable(bundle, kind) for kind in TABLE_KINDS}
    for kind, columns in _ID_COLUMNS.items():
        for column in columns:
            tables[kind].require_ids(column)
    with ExitStack() as stack:
        pool = stack.enter_context(new_pool())
        models = {kind: Model(bundle, kind, pool) for kind in MODEL_KINDS}
        feeds = {kind: plan_feeds(bundle, models[kind], tables) for kind in MODEL_KINDS}
        counts = _partition_counts(tables)
        spills = {
            kind: stack.enter_context(Spill(_schema(kind, features_of(feeds, kind)), counts[kind]))
            for kind in TABLE_KINDS
        }
        prepared = Prepared(bundle, models, feeds, tables, spills)
        for kind in TABLE_KINDS:
            _read(prepared, kind, progress)
        _check_widths(prepared)
        _check_partitions(prepared, max_pairs_per_user)
        yield prepared


_ID_COLUMNS: Final[Mapping[TableKind, Sequence[str]]] = {
    "users": ("user_id",),
    "items": ("item_id", "category_id"),
    "user_categories": ("user_id", "category_id"),
}
"""The key of each table, then the category that its rows have."""


def _partition_counts(tables: Tables) -> dict[TableKind, int]:
    users, items, pairs = (tables[k] for k in ("users", "items", "user_categories"))
    joined = partition_count(
        users.rows / _PARTITION_ROWS,
        users.size_bytes / _PARTITION_BYTES,
        pairs.rows / _PARTITION_PAIRS,
        pairs.size_bytes / _PARTITION_BYTES,
    )
    own = partition_count(items.rows / _PARTITION_ROWS, items.size_bytes / _PARTITION_BYTES)
    return {"users": joined, "items": own, "user_categories": joined}


def _schema(kind: TableKind, features: Sequence[Feature]) -> pa.Schema:
    fields = [(KEY, pa.int64()), (ROW, pa.int64())]
    if kind != "users":
        fields.append((CATEGORY, pa.int64()))
    return pa.schema(fields + [(f.key, _stored_type(f)) for f in features])


def _stored_type(feature: Feature) -> pa.DataType:
    # Arrow packs booleans into bits; a byte each is what the models take.
    element = pa.uint8() if feature.dtype.kind == "b" else pa.from_numpy_dtype(feature.dtype)
    return pa.large_list(element) if feature.is_list else element


def _read(prepared: Prepared, kind: TableKind, progress: Progress) -> None:
    table, spill = prepared.tables[kind], prepared.spills[kind]
    features = prepared.features(kind)
    for feature in features:
        prepared.longest[kind, feature.column] = 1
    columns = [*_ID_COLUMNS[kind], *(f.column for f in features)]
    for first, batch in table.batches(columns):
        spill.append(_converted(prepared, kind, features, first, batch))
        progress(batch.num_rows)
    spill.flush()


def _converted(
    prepared: Prepared,
    kind: TableKind,
    features: Sequence[Feature],
    first: int,
    batch: pa.RecordBatch,
) -> pa.RecordBatch:
    """Check one batch of a table and give its columns the types that the spill holds."""
    table = prepared.tables[kind]
    key, *others = _ID_COLUMNS[kind]
    rows = np.arange(first, first + batch.num_rows, dtype=np.int64)
    arrays = [pa.array(table.ids(batch, key, first)), pa.array(rows)]
    if kind == "items":
        ids, known = table.categories(batch, others[0], first)
        arrays.append(pa.array(ids, mask=~known))
    elif kind == "user_categories":
        arrays.append(pa.array(table.ids(batch, others[0], first)))
    for feature in features:
        stored = _stored_type(feature)
        if feature.is_list:
            values, lengths = table.lists(batch, feature, first)
            longest = int(lengths.max(initial=1))
            at = kind, feature.column
            prepared.longest[at] = max(prepared.longest[at], longest)
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
            elements = pa.array(_bytes_if_bool(values), type=stored.value_type)
            arrays.append(pa.LargeListArray.from_arrays(pa.array(offsets), elements))
        else:
            null_is_zero = kind == "items" and feature.column == "category_id"
            values = table.numbers(batch, feature, first, null_is_zero=null_is_zero)
            arrays.append(pa.array(_bytes_if_bool(values), type=stored))
    return pa.RecordBatch.from_arrays(arrays, schema=prepared.spills[kind].schema)


def _bytes_if_bool(values: Values) -> Values:
    return values.view(np.uint8) if values.dtype.kind == "b" else values


def _check_widths(prepared: Prepared) -> None:
    """Refuse lists so long that not even a few rows of a model's inputs fit into memory."""
    for kind, feeds in prepared.feeds.items():
        widest = max(feeds, key=prepared.feed_bytes)
        if prepared.row_bytes(kind) > _MOST_ROW_BYTES:
            length = prepared.feed_bytes(widest) // widest.feature.dtype.itemsize
            raise BundleError(
                prepared.models[kind].file,
                f"each row of input {widest.input.name!r} would be padded to {length:,} elements; "
                f"give {widest.feature.column!r} a smaller length in 'pad' of the manifest",
            )


def _check_partitions(prepared: Prepared, max_pairs_per_user: int) -> None:
    """Refuse duplicate ids and pairs, pairs without their user, and users with too many pairs."""
    for partition in range(prepared.spills["items"].partitions):
        _refuse_duplicates(prepared, "items", "item_id", prepared.load("items", partition))
    for partition in range(prepared.spills["users"].partitions):
        users, pairs = (
            prepared.load("users", partition),
            prepared.load("user_categories", partition),
        )
        _refuse_duplicates(prepared, "users", "user_id", users)
        _check_pairs(prepared, users, pairs, max_pairs_per_user)


def _refuse_duplicates(prepared: Prepared, kind: TableKind, column: str, rows: Rows) -> None:
    same = np.flatnonzero(rows.ids[1:] == rows.ids[:-1])
    if len(same):
        first, second = sorted(rows.rows[same[0] : same[0] + 2].tolist())
        table = prepared.tables[kind]
        file, place = table.locate(first)
        raise table.error(
            f"{rows.ids[same[0]]} is there twice, first in row {place} of {file}", column, second
        )


def _check_pairs(prepared: Prepared, users: Rows, pairs: Rows, max_pairs_per_user: int) -> None:
    table = prepared.tables["user_categories"]
    ids, rows = pairs.ids, pairs.rows
    owner = users.owners(ids)
    if len(lost := np.flatnonzero(owner < 0)):
        at = lost[np.argmin(rows[lost])]
        raise table.error(f"user {ids[at]} is not in the users table", "user_id", int(rows[at]))
    same = np.flatnonzero((ids[1:] == ids[:-1]) & (pairs.categories[1:] == pairs.categories[:-1]))
    if len(same):
        at = same[0]
        first, second = sorted(rows[at : at + 2].tolist())
        file, place = table.locate(first)
        raise table.error(
            f"the pair of user {ids[at]} and category {pairs.categories[at]} is there twice, "
            f"first in row {place} of {file}",
            "category_id",
            second,
        )
    counts = np.bincount(owner, minlength=len(users.ids))
    if len(counts) and counts.max() > max_pairs_per_user:
        user = int(np.argmax(counts))
        mine = np.sort(rows[owner == user])
        raise table.error(
            f"user {users.ids[user]} has {counts[user]} pairs, more than the "
            f"{max_pairs_per_user} of --max-pairs-per-user",
            "user_id",
            int(mine[max_pairs_per_user]),
        )
