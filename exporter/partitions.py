"""Tables brought into the order of the store outside memory: by their ids' hashes, in partitions.

A store takes rows in the order of their ids' hashes, and a table may come in any order and size.
One pass over a table checks each row and appends it to its partition in a temporary file; then a
partition is read at once and sorted in memory. Users and their pairs have the same partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exporter.categories import Categories
from exporter.errors import FeatureTableError
from exporter.features import TEXT, Feature, ListColumn, Values
from exporter.manifest import ID_COLUMNS, TableKind
from exporter.spill import KEY, Spill
from exporter.tables import FeatureTable, TableBatch
from gkc.arrays import I64, Bools
from gkc.id_index import keys_of
from gkc.store import IdTypes as StoredIdTypes
from gkc.store import hash_ids
from gkc.strings import IdType, StringIds

_NONE: Final = np.zeros(0, np.int64)
_PARTITION_ROWS: Final = 25_000
_PARTITION_PAIRS: Final = 500_000
_PARTITION_BYTES: Final = 32 << 20
_MAX_PARTITIONS: Final = 4096

Tables = Mapping[TableKind, FeatureTable]

NAME: Final = "@name"
"""Column with the id itself, where it is a string."""
ROW: Final = "@row"
"""Column with where in its whole table a row stood."""
CATEGORY: Final = "@category"
"""Column with the category of an item, null for none, or of a pair; of strings, a number."""


@dataclass(frozen=True, slots=True)
class IdTypes:
    """What the ids of each kind are, and the categories where they are strings."""

    user: IdType = "int64"
    item: IdType = "int64"
    category: IdType = "int64"
    categories: Categories = field(default_factory=Categories)

    @property
    def stored(self) -> StoredIdTypes:
        """The types alone, as a generation keeps them."""
        return StoredIdTypes(self.user, self.item, self.category)

    def of(self, kind: TableKind) -> IdType:
        """Return the type of the ids that order a table."""
        return self.item if kind == "items" else self.user


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of one table, in ascending order of their ids' hashes.

    Attributes
    ----------
    ids : ndarray, shape (n,), int64
        Of strings, their keys.
    rows : ndarray, shape (n,), int64
        Where in the whole table each row stood.
    numbers : dict of str to ndarray, shape (n,)
        Scalar features by key; of strings, their places in ``words``.
    lists : dict of str to ListColumn
        List features by key; of strings, their places in ``words``.
    words : dict of str to ndarray, shape (w,), object
        The distinct strings of each feature that is of strings; the first is the empty one, so
        that padding with 0 is right for them, too.
    categories : ndarray, shape (n,), int64
        Zeros where a row has none, and throughout for users.
        Of strings, their places in the dictionary.
    has_category : ndarray, shape (n,), bool
    names : ndarray, shape (n,), object, or None
        The ids themselves, as bytes, where they are strings.
    """

    ids: I64
    rows: I64
    numbers: dict[str, Values]
    lists: dict[str, ListColumn]
    words: dict[str, Values]
    categories: I64
    has_category: Bools
    names: Values | None = None

    def names_at(self, places: I64) -> list[bytes] | None:
        """Return the strings at some places; None if ids are numbers."""
        if self.names is None:
            return None
        names: list[bytes] = self.names[places].tolist()
        return names

    def shown(self, place: int) -> str:
        """Return an id for messages."""
        return str(self.ids[place]) if self.names is None else repr(self.names[place].decode())

    def is_repeated(self) -> Bools:
        """Tell of each row but the last whether the next one has the same id, shape (n - 1,)."""
        same: Bools = self.ids[1:] == self.ids[:-1]
        return same if self.names is None else same & (self.names[1:] == self.names[:-1])

    def owners(self, others: TableRows) -> I64:
        """Return where the id of each of others is among the rows, shape (n,); -1 if nowhere."""
        ids = others.ids
        if self.names is not None and others.names is not None:
            place_of = {name: place for place, name in enumerate(self.names.tolist())}
            owners = (place_of.get(name, -1) for name in others.names.tolist())
            return np.fromiter(owners, dtype=np.int64, count=len(ids))
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64)
        places = np.searchsorted(hash_ids(self.ids), hash_ids(ids))
        places = np.minimum(places, len(self.ids) - 1)
        return np.where(self.ids[places] == ids, places, -1).astype(np.int64)


NO_ROWS: Final = TableRows(_NONE, _NONE, {}, {}, {}, _NONE, np.zeros(0, np.bool_))


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table whose rows have been read and checked, and wait in partitions.

    Attributes
    ----------
    source : FeatureTable
    features : sequence of Feature
    spill : Spill
    longest : dict of str to int
        By column, length of the longest list, at least 1.
    id_types : IdTypes
    name_bytes : int
        Of all ids together, where they are strings.
    """

    source: FeatureTable
    features: Sequence[Feature]
    spill: Spill
    longest: Mapping[str, int]
    id_types: IdTypes
    name_bytes: int

    @property
    def sizes(self) -> I64:
        """Rows of each partition."""
        return self.spill.rows

    def load(self, partition: int) -> TableRows:
        """Read one partition, sorted as stores want it."""
        places = None
        if self.id_types.category == "string":
            places = self.id_types.categories.places()
        return sort_rows(self.spill.read(partition), self.features, places)

    def category_shown(self, category: int) -> str:
        """Return a row's category for messages."""
        if self.id_types.category == "int64":
            return str(category)
        return repr(self.id_types.categories.names()[category].decode())


@contextmanager
def partition_tables(
    tables: Tables,
    features: Mapping[TableKind, Sequence[Feature]],
    id_types: IdTypes,
    progress: Callable[[int], None],
) -> Iterator[Mapping[TableKind, PartitionedTable]]:
    """Read all tables into partitions, which are gone after the block.

    Parameters
    ----------
    tables : mapping of table kind to FeatureTable
    features : mapping of table kind to sequence of Feature
        What to keep of each besides ids and categories.
    id_types : IdTypes
        Takes the categories that are strings.
    progress : callable
        Is given the rows read; each row of each table counts once.

    Raises
    ------
    FeatureTableError
        At the first value that cannot be exported.
    SpillError
        If the temporary directory does not take the rows.
    """
    counts = _partition_counts(tables)
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(
                _partition_table(tables[kind], features[kind], id_types, counts[kind], progress)
            )
            for kind in tables
        }


@contextmanager
def _partition_table(
    table: FeatureTable,
    features: Sequence[Feature],
    id_types: IdTypes,
    partitions: int,
    progress: Callable[[int], None],
) -> Iterator[PartitionedTable]:
    columns = [*table.id_columns, *(f.column for f in features)]
    lists = [f for f in features if f.is_list]
    longest = {f.column: 1 for f in lists}
    name_bytes = 0
    with Spill(_schema(table.kind, features, id_types), partitions) as spill:
        for batch in table.batches(columns):
            checked = _checked(table.kind, batch, features, id_types, spill.schema)
            spill.append(checked)
            if NAME in spill.schema.names:
                name_bytes += pc.sum(pc.binary_length(checked.column(NAME))).as_py()
            for feature in lists:
                lengths = pc.list_value_length(checked.column(feature.key))
                longest[feature.column] = max(longest[feature.column], pc.max(lengths).as_py())
            progress(batch.rows)
        spill.flush()
        yield PartitionedTable(table, features, spill, longest, id_types, name_bytes)


def _schema(kind: TableKind, features: Sequence[Feature], id_types: IdTypes) -> pa.Schema:
    fields = [(KEY, pa.int64()), (ROW, pa.int64())]
    if id_types.of(kind) == "string":
        fields.append((NAME, pa.large_binary()))
    if kind != "users":
        fields.append((CATEGORY, pa.int64()))
    return pa.schema(fields + [(f.key, _stored_type(f)) for f in features])


def _stored_type(feature: Feature) -> pa.DataType:
    if feature.is_text:
        element = pa.large_string()
    elif feature.dtype.kind == "b":
        # Arrow packs booleans into bits; a byte each is what the models take.
        element = pa.uint8()
    else:
        element = pa.from_numpy_dtype(feature.dtype)
    return pa.large_list(element) if feature.is_list else element


def _checked(
    kind: TableKind,
    batch: TableBatch,
    features: Sequence[Feature],
    id_types: IdTypes,
    schema: pa.Schema,
) -> pa.RecordBatch:
    """Check one batch of a table and give its columns the types that the spill holds."""
    rows = pa.array(np.arange(batch.first, batch.first + batch.rows, dtype=np.int64))
    if id_types.of(kind) == "string":
        names = batch.names(ID_COLUMNS[kind][0]).cast(pa.large_binary())
        arrays = [pa.array(keys_of(StringIds.of(names.to_pylist()))), rows, names]
    else:
        arrays = [pa.array(batch.ids(ID_COLUMNS[kind][0])), rows]
    if kind != "users":
        arrays.append(_categories(batch, id_types, may_be_null=kind == "items"))
    for feature in features:
        if feature.is_list:
            arrays.append(_list_feature(batch, feature))
        else:
            null_is_blank = kind == "items" and feature.column == "category_id"
            arrays.append(_scalar_feature(batch, feature, null_is_blank=null_is_blank))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _categories(batch: TableBatch, id_types: IdTypes, *, may_be_null: bool) -> pa.Array:
    if id_types.category == "string":
        names = batch.names("category_id", may_be_null=may_be_null)
        known = np.asarray(names.is_valid(), dtype=np.bool_)
        return pa.array(id_types.categories.add(names), mask=~known)
    if not may_be_null:
        return pa.array(batch.ids("category_id"))
    ids, known = batch.categories("category_id")
    return pa.array(ids, mask=~known)


def _scalar_feature(batch: TableBatch, feature: Feature, *, null_is_blank: bool) -> pa.Array:
    if feature.is_text:
        return batch.texts(feature, null_is_empty=null_is_blank)
    return _number_array(batch.numbers(feature, null_is_zero=null_is_blank))


def _list_feature(batch: TableBatch, feature: Feature) -> pa.Array:
    if feature.is_text:
        elements, lengths = batch.text_lists(feature)
    else:
        values, lengths = batch.lists(feature)
        elements = _number_array(values)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), elements)


def _number_array(values: Values) -> pa.Array:
    return pa.array(values.view(np.uint8) if values.dtype.kind == "b" else values)


def _partition_counts(tables: Tables) -> dict[TableKind, int]:
    most_rows = {
        "users": _PARTITION_ROWS,
        "items": _PARTITION_ROWS,
        "user_categories": _PARTITION_PAIRS,
    }
    counts = {
        kind: partition_count(table.rows / most_rows[kind], table.size_bytes / _PARTITION_BYTES)
        for kind, table in tables.items()
    }
    joined = max(count for kind, count in counts.items() if kind != "items")
    return {kind: counts[kind] if kind == "items" else joined for kind in tables}


def partition_count(*needed: float) -> int:
    """Return the largest of several wishes as a number of partitions within bounds."""
    return int(min(_MAX_PARTITIONS, max(1, *(np.ceil(n) for n in needed))))


def sort_rows(
    table: pa.Table, features: Sequence[Feature], category_places: I64 | None = None
) -> TableRows:
    """Sort one partition of a spill by hash; pairs of one user by category, equal ones by row.

    Strings of one hash are sorted by their bytes.

    Parameters
    ----------
    table : pyarrow.Table
        Of the spill's schema, each column in at most one chunk, in the order of the table's rows.
    features : sequence of Feature
        What to take besides ids, rows and categories.
    category_places : ndarray, int64, optional
        Of strings, the place that each category's number has in the dictionary.
    """
    ids = _numbers(table, KEY)
    if CATEGORY in table.column_names:
        column = table.column(CATEGORY)
        has_category = np.asarray(column.is_valid().to_numpy(), dtype=np.bool_)
        categories = np.asarray(column.fill_null(0).to_numpy(), dtype=np.int64)
    else:
        has_category, categories = np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.int64)
    if category_places is not None and len(category_places):
        categories = np.where(has_category, category_places[categories], 0)
    names = ranks = None
    if NAME in table.column_names:
        names, ranks = _ranked(table.column(NAME).combine_chunks())
    by_name = () if ranks is None else (ranks,)
    order = np.lexsort((categories, *by_name, hash_ids(ids)))
    columns = {f.key: table.column(f.key).combine_chunks() for f in features}
    elements = {f.key: columns[f.key].flatten() if f.is_list else columns[f.key] for f in features}
    texts = {f.key: _numbered(elements[f.key]) for f in features if f.is_text}
    values = {
        f.key: texts[f.key][0] if f.is_text else _values(elements[f.key], f) for f in features
    }
    return TableRows(
        ids[order],
        _numbers(table, ROW)[order],
        {f.key: values[f.key][order] for f in features if not f.is_list},
        {f.key: _lists(columns[f.key], values[f.key], order) for f in features if f.is_list},
        {key: words for key, (_, words) in texts.items()},
        categories[order],
        has_category[order],
        None if names is None else names[order],
    )


def _numbers(table: pa.Table, name: str) -> Values:
    return np.asarray(table.column(name).to_numpy())


def _ranked(column: pa.Array) -> tuple[Values, I64]:
    """Return strings as bytes, and the rank of each among them by its bytes."""
    encoded = column.dictionary_encode()
    distinct: list[bytes] = encoded.dictionary.to_pylist()
    rank_of = {name: rank for rank, name in enumerate(sorted(distinct))}
    ranks = np.array([rank_of[name] for name in distinct], dtype=np.int64)
    words = np.empty(len(distinct), dtype=object)
    words[:] = distinct
    indices = encoded.indices.to_numpy()
    return words[indices], ranks[indices]


def _values(elements: pa.Array, feature: Feature) -> Values:
    values = np.asarray(elements.to_numpy(zero_copy_only=False))
    return values.view(np.bool_) if feature.dtype.kind == "b" else values


def _lists(column: pa.Array, values: Values, order: I64) -> ListColumn:
    lengths = np.asarray(pc.list_value_length(column).to_numpy(), dtype=np.int64)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    return ListColumn(values, starts[order], lengths[order])


def _numbered(texts: pa.Array) -> tuple[Values, Values]:
    """Return the place of each string among distinct ones, and these, the empty one first."""
    encoded = texts.dictionary_encode()
    words = np.empty(len(encoded.dictionary) + 1, dtype=TEXT)
    words[0], words[1:] = "", encoded.dictionary.to_numpy(zero_copy_only=False)
    return encoded.indices.to_numpy() + np.int32(1), words


def check_partitions(
    partitioned: Mapping[TableKind, PartitionedTable], max_pairs_per_user: int
) -> None:
    """Refuse duplicate ids and pairs, pairs without their user, and users with too many pairs.

    Raises
    ------
    FeatureTableError
        Names the row.
    """
    for partition in range(len(partitioned["items"].sizes)):
        _refuse_duplicates(partitioned["items"], "item_id", partition)
    for partition in range(len(partitioned["users"].sizes)):
        users = _refuse_duplicates(partitioned["users"], "user_id", partition)
        if pairs := partitioned.get("user_categories"):
            _check_pairs(pairs, users, pairs.load(partition), max_pairs_per_user)


def _refuse_duplicates(table: PartitionedTable, column: str, partition: int) -> TableRows:
    rows = table.load(partition)
    same = np.flatnonzero(rows.is_repeated())
    if len(same):
        raise _twice(table.source, column, rows.shown(same[0]), rows, same[0])
    return rows


def _twice(
    table: FeatureTable, column: str, what: str, rows: TableRows, place: int
) -> FeatureTableError:
    first, second = sorted(rows.rows[place : place + 2].tolist())
    file, row = table.locate(first)
    return table.error(f"{what} is there twice, first in row {row} of {file}", column, second)


def _check_pairs(
    partitioned: PartitionedTable, users: TableRows, pairs: TableRows, max_pairs_per_user: int
) -> None:
    table, rows = partitioned.source, pairs.rows
    owner = users.owners(pairs)
    if len(lost := np.flatnonzero(owner < 0)):
        at = lost[np.argmin(rows[lost])]
        raise table.error(
            f"user {pairs.shown(at)} is not in the users table", "user_id", int(rows[at])
        )
    same = np.flatnonzero(pairs.is_repeated() & (pairs.categories[1:] == pairs.categories[:-1]))
    if len(same):
        category = partitioned.category_shown(int(pairs.categories[same[0]]))
        pair = f"the pair of user {pairs.shown(same[0])} and category {category}"
        raise _twice(table, "category_id", pair, pairs, same[0])
    counts = np.bincount(owner, minlength=len(users.ids))
    if len(counts) and counts.max() > max_pairs_per_user:
        user = int(np.argmax(counts))
        raise table.error(
            f"user {users.shown(user)} has {counts[user]} pairs, more than the "
            f"{max_pairs_per_user} of --max-pairs-per-user",
            "user_id",
            int(np.sort(rows[owner == user])[max_pairs_per_user]),
        )
