"""Rows of a table as questions: which columns hold ids, and what is wrong with them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from gkc.arrays import I64, Bools
from gkc.center.question import Columns
from gkc.errors import TableFileError

USER: Final = "user_id"
ITEM: Final = "item_id"
CATEGORY: Final = "category_id"
_MOST_NAMES: Final = 20


class RowQuestions:
    """Reads the questions that a table's rows are.

    Parameters
    ----------
    table : str
        What messages call it.
    schema : Schema
    version : str or None
        Of every row.
    version_column : str or None
        Names the version of each row, where they have not all the same.

    Attributes
    ----------
    columns : list of str
        The columns that questions are made of.

    Raises
    ------
    TableFileError
        If a column is missing, is there twice, or holds something else.
    """

    def __init__(
        self, table: str, schema: pa.Schema, version: str | None, version_column: str | None
    ) -> None:
        self._table = table
        self._schema = schema
        self._version = version
        self._version_column = version_column
        self._has_category = CATEGORY in schema.names
        ids = [USER, ITEM, *([CATEGORY] if self._has_category else [])]
        for name in ids:
            self._require_ids(name)
        if version_column is not None:
            self._require_names(version_column)
        self.columns = ids + ([] if version_column is None else [version_column])

    def read(self, batch: pa.RecordBatch, first: int) -> Columns:
        """Return what some rows ask, the first of which is row ``first`` of the table.

        Raises
        ------
        TableFileError
            If a user, an item or a version is null, or an id is outside int64.
        """
        categories, has_category = self._categories(batch, first)
        versions, index = self.versions(batch, first)
        return Columns(
            n=batch.num_rows,
            users=self._ids(batch, USER, first),
            items=self._ids(batch, ITEM, first),
            categories=categories,
            has_category=has_category,
            versions=versions,
            version_index=index,
        )

    def versions(self, batch: pa.RecordBatch, first: int) -> tuple[tuple[str, ...], I64]:
        """Return the distinct versions of some rows, and which of them each row has."""
        if self._version_column is None:
            assert self._version is not None
            return (self._version,), np.zeros(1, dtype=np.int64)
        names = _plain(batch.column(self._version_column))
        self._refuse_null(names, self._version_column, first)
        coded = names.cast(pa.string()).dictionary_encode()
        index = np.asarray(coded.indices, dtype=np.int64)
        versions = tuple(coded.dictionary.to_pylist())
        return versions, index if len(versions) != 1 else index[:1]

    def error(self, problem: str, column: str, row: int) -> TableFileError:
        """Return the error about one row of the table."""
        return TableFileError(self._table, problem, column, row)

    def _categories(self, batch: pa.RecordBatch, first: int) -> tuple[I64 | None, Bools | None]:
        if not self._has_category:
            return None, None
        column = batch.column(CATEGORY)
        if column.null_count == len(column):
            return None, None
        return self._numbers(batch, CATEGORY, first), np.asarray(column.is_valid(), dtype=np.bool_)

    def _ids(self, batch: pa.RecordBatch, name: str, first: int) -> I64:
        self._refuse_null(batch.column(name), name, first)
        return self._numbers(batch, name, first)

    def _numbers(self, batch: pa.RecordBatch, name: str, first: int) -> I64:
        """Return a column's ids, 0 where there is none."""
        ids = _plain(batch.column(name))
        if pa.types.is_null(ids.type):
            return np.zeros(len(ids), dtype=np.int64)
        ids = ids.fill_null(0)
        try:
            numbers: I64 = ids.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid as exc:
            row = int(np.argmax(ids.to_numpy() > np.uint64(2**63 - 1)))
            problem = f"{ids[row]} is beyond int64; view the ids as int64, in the bundle too"
            raise self.error(problem, name, first + row) from exc
        return numbers

    def _refuse_null(self, column: pa.Array, name: str, first: int) -> None:
        if column.null_count:
            row = int(np.asarray(column.is_null(), dtype=np.bool_).argmax())
            raise self.error("is null; fill it, or leave such rows out", name, first + row)

    def _require_ids(self, name: str) -> None:
        held = _plain_type(self._type(name))
        if not (pa.types.is_integer(held) or pa.types.is_null(held)):
            raise TableFileError(
                self._table, f"ids must be of an integer type, not {held}; cast them to int64", name
            )

    def _require_names(self, name: str) -> None:
        held = _plain_type(self._type(name))
        if not (_is_string(held) or pa.types.is_null(held)):
            problem = f"versions are strings such as '20211220', not {held}; cast them to string"
            raise TableFileError(self._table, problem, name)

    def _type(self, name: str) -> pa.DataType:
        places = self._schema.get_all_field_indices(name)
        if not places:
            raise TableFileError(self._table, f"there is no column {name!r}{self._instead()}")
        if len(places) > 1:
            raise TableFileError(self._table, "is there twice", name)
        return self._schema.field(places[0]).type

    def _instead(self) -> str:
        """Say what columns there are, and where one may have been lost."""
        pandas = self._schema.pandas_metadata or {}
        index = [i["name"] if isinstance(i, dict) else i for i in pandas.get("index_columns", [])]
        if {USER, ITEM} & set(index) or "__index_level_0__" in index:
            return "; pandas keeps an index apart: reset_index() before to_parquet()"
        return f"; its columns: {', '.join(self._schema.names[:_MOST_NAMES])}"


def _plain_type(held: pa.DataType) -> pa.DataType:
    """Return what a type holds, however it is laid out: dictionaries, extensions."""
    while pa.types.is_dictionary(held) or isinstance(held, pa.BaseExtensionType):
        held = held.value_type if pa.types.is_dictionary(held) else held.storage_type
    return held


def _plain(array: pa.Array) -> pa.Array:
    while array.type != _plain_type(array.type):
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array.storage
    return array


def _is_string(held: pa.DataType) -> bool:
    kinds: list[Any] = [pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view]
    return any(kind(held) for kind in kinds)
