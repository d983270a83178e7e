"""One partition in memory: its rows sorted in the order in which a store takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exporter.features import Feature, ListColumn, Values
from exporter.spill import CATEGORY, KEY, ROW
from gkc.arrays import I64
from gkc.store import hash_ids


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table, in ascending order of their ids' hashes.

    Attributes
    ----------
    ids : ndarray, shape (n,), int64
    rows : ndarray, shape (n,), int64
        Where in the whole table each row stood.
    numbers : dict of str to ndarray, shape (n,)
        Scalar features by key.
    lists : dict of str to ListColumn
        List features by key.
    categories : ndarray, shape (n,), int64
        Zeros where a row has none, and throughout for users.
    has_category : ndarray, shape (n,), bool
    """

    ids: I64
    rows: I64
    numbers: dict[str, Values]
    lists: dict[str, ListColumn]
    categories: I64
    has_category: npt.NDArray[np.bool_]

    def owners(self, ids: I64) -> I64:
        """Return where each of some ids is among the rows, shape (n,), int64; -1 if nowhere."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64)
        places = np.searchsorted(hash_ids(self.ids), hash_ids(ids))
        places = np.minimum(places, len(self.ids) - 1)
        return np.where(self.ids[places] == ids, places, -1).astype(np.int64)


def load_rows(table: pa.Table, features: Sequence[Feature]) -> Rows:
    """Sort one partition of a spill by hash; pairs of one user by category, equal ones by row.

    Parameters
    ----------
    table : pyarrow.Table
        Of the spill's schema, each column in at most one chunk, in the order of the table's rows.
    features : sequence of Feature
        What to take besides ids, rows and categories.
    """
    ids = _numbers(table, KEY)
    if CATEGORY in table.column_names:
        column = table.column(CATEGORY)
        has_category = np.asarray(column.is_valid().to_numpy(), dtype=np.bool_)
        categories = np.asarray(column.fill_null(0).to_numpy(), dtype=np.int64)
    else:
        has_category, categories = np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.int64)
    order = np.lexsort((categories, hash_ids(ids)))
    numbers: dict[str, Values] = {}
    lists: dict[str, ListColumn] = {}
    for feature in features:
        if feature.is_list:
            lists[feature.key] = _lists(table, feature, order)
        else:
            numbers[feature.key] = _as_bool(_numbers(table, feature.key), feature)[order]
    return Rows(
        ids[order],
        _numbers(table, ROW)[order],
        numbers,
        lists,
        categories[order],
        has_category[order],
    )


def _numbers(table: pa.Table, name: str) -> Values:
    return np.asarray(table.column(name).to_numpy())


def _lists(table: pa.Table, feature: Feature, order: I64) -> ListColumn:
    column = table.column(feature.key).combine_chunks()
    # Arrow may leave out even the first offset of an empty column.
    offsets = (
        np.asarray(column.offsets.to_numpy(), dtype=np.int64)
        if len(column)
        else np.zeros(1, np.int64)
    )
    values = np.asarray(column.values.to_numpy(zero_copy_only=False))
    return ListColumn(_as_bool(values, feature), offsets[:-1][order], np.diff(offsets)[order])


def _as_bool(values: Values, feature: Feature) -> Values:
    return values.view(np.bool_) if feature.dtype.kind == "b" else values
