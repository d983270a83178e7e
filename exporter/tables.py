"""Feature tables: Parquet files read in bounded batches, checked, and turned into typed columns."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exporter.bundle import Bundle
from exporter.errors import FeatureTableError
from exporter.features import Feature, Values, cast_values
from exporter.manifest import TableKind
from gkc.arrays import I64

_BATCH_BYTES: Final = 4 << 20
_BATCH_ROWS: Final = 16_384
_READ_BUFFER_BYTES: Final = 1 << 20
_MOST_NAMES: Final = 20


@dataclass(frozen=True, slots=True)
class _Part:
    """One Parquet file of a table, as its footer tells of it."""

    file: str
    path: Path
    schema: pa.Schema
    rows: int
    size_bytes: int

    @classmethod
    def open(cls, bundle: Bundle, file: str) -> _Part:
        path = bundle.path(file)
        try:
            with pq.ParquetFile(path) as parquet:
                metadata, schema = parquet.metadata, parquet.schema_arrow
        except (pa.ArrowException, OSError) as exc:
            raise FeatureTableError(file, f"is no readable Parquet file: {_one_line(exc)}") from exc
        groups = (metadata.row_group(g) for g in range(metadata.num_row_groups))
        size = sum(group.total_byte_size for group in groups)
        return cls(file, path, schema, metadata.num_rows, size)

    def column_type(self, column: str) -> pa.DataType:
        places = self.schema.get_all_field_indices(column)
        if len(places) != 1:
            problem = "the file has it twice" if places else f"the file has {self._missing(column)}"
            raise FeatureTableError(self.file, problem, column=column)
        return self.schema.field(places[0]).type

    def _missing(self, column: str) -> str:
        """Say that there is no such column, and where it may have been lost."""
        pandas = self.schema.pandas_metadata or {}
        index = [i["name"] if isinstance(i, dict) else i for i in pandas.get("index_columns", [])]
        if column in index or "__index_level_0__" in index:
            return "no such column; pandas keeps an index apart: reset_index() before to_parquet()"
        return f"no such column; its columns: {', '.join(self.schema.names[:_MOST_NAMES])}"


class FeatureTable:
    """One table of a bundle: one Parquet file or several in a folder, read in the order of names.

    Parameters
    ----------
    bundle : Bundle
    kind : {"users", "items", "user_categories"}

    Attributes
    ----------
    rows : int
        Of all files.
    size_bytes : int
        Uncompressed, as Parquet counts.

    Raises
    ------
    FeatureTableError
        If a file is not Parquet.
    """

    def __init__(self, bundle: Bundle, kind: TableKind) -> None:
        self.kind = kind
        parts = [_Part.open(bundle, file) for file in bundle.tables[kind]]
        # What types a part without rows has says nothing: its writer had none to tell them from.
        parts = [part for part in parts if part.rows] or parts[:1]
        self._parts = parts
        self.size_bytes = sum(part.size_bytes for part in parts)
        self._first_rows = list(itertools.accumulate((p.rows for p in parts), initial=0))
        self.rows = self._first_rows[-1]

    def has_column(self, column: str) -> bool:
        """Tell whether the table's first file has a column."""
        return column in self._parts[0].schema.names

    def require_ids(self, column: str) -> None:
        """Check that every file has a column of some integer type.

        Raises
        ------
        FeatureTableError
            If one lacks it, or it holds something else.
        """
        for file, found in self._column_types(column):
            if not pa.types.is_integer(found):
                raise FeatureTableError(
                    file,
                    f"ids must be of an integer type, not {found}; cast them to int64 "
                    "(in pandas 'Int64', which may be null)",
                    column=column,
                )

    def is_list(self, column: str) -> bool | None:
        """Check that a column holds numbers or lists of numbers, and tell which.

        Returns
        -------
        bool or None
            None where the table holds nothing but null, which is either.

        Raises
        ------
        FeatureTableError
            If a file lacks it, it holds something else, or the files differ.
        """
        kinds = set()
        for file, found in self._column_types(column):
            element = _plain_type(found.value_type) if _is_list(found) else found
            if not _is_number(element):
                raise FeatureTableError(
                    file, f"must hold numbers or lists of numbers, not {found}", column=column
                )
            kinds.add(_is_list(found))
            if len(kinds) > 1:
                raise FeatureTableError(
                    file,
                    "is a list in one file of the table and a number in another",
                    column=column,
                )
        return kinds.pop() if kinds else None

    def _column_types(self, column: str) -> Iterator[tuple[str, pa.DataType]]:
        """Yield what a column holds in each file in which it holds anything."""
        for part in self._parts:
            found = _plain_type(part.column_type(column))
            if self.rows and not pa.types.is_null(found):
                yield part.file, found

    def locate(self, row: int) -> tuple[str, int]:
        """Return the file, and the row within it, of a row of the whole table."""
        place = bisect_right(self._first_rows, row) - 1
        return self._parts[place].file, row - self._first_rows[place]

    def error(self, problem: str, column: str, row: int) -> FeatureTableError:
        """Build the error about one row of the whole table."""
        file, inside = self.locate(row)
        return FeatureTableError(file, problem, column=column, row=inside)

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Read some columns, a bounded number of bytes at a time.

        Yields
        ------
        int
            Row of the whole table at which the batch begins.
        pyarrow.RecordBatch

        Raises
        ------
        FeatureTableError
            If a file is damaged.
        """
        row_bytes = self.size_bytes / max(self.rows, 1)
        batch_rows = int(min(_BATCH_ROWS, max(256.0, _BATCH_BYTES / max(row_bytes, 1.0))))
        names = sorted(set(columns))
        for part, first in zip(self._parts, self._first_rows, strict=False):
            row = first
            try:
                # Unbuffered, a column of a row group is held whole; read ahead, the file is.
                with pq.ParquetFile(
                    part.path, buffer_size=_READ_BUFFER_BYTES, pre_buffer=False
                ) as parquet:
                    for batch in parquet.iter_batches(batch_rows, columns=names):
                        if batch.num_rows:
                            yield row, batch
                        row += batch.num_rows
            except (pa.ArrowException, OSError) as exc:
                raise FeatureTableError(part.file, f"cannot be read: {_one_line(exc)}") from exc

    def ids(self, batch: pa.RecordBatch, column: str, first: int) -> I64:
        """Return a column of ids, shape (n,), int64.

        Raises
        ------
        FeatureTableError
            If one is null or outside int64.
        """
        array = _plain(batch.column(column))
        self._refuse_null(array, column, first)
        return self._cast(array, np.dtype(np.int64), column, first, "an id within int64")

    def categories(
        self, batch: pa.RecordBatch, column: str, first: int
    ) -> tuple[I64, npt.NDArray[np.bool_]]:
        """Return a column of ids that may be null: the ids, 0 where null, and which are not."""
        array = _plain(batch.column(column))
        known = np.asarray(array.is_valid(), dtype=np.bool_)
        filled = pc.fill_null(array, 0)
        ids = self._cast(filled, np.dtype(np.int64), column, first, "an id within int64")
        return ids, known

    def numbers(
        self, batch: pa.RecordBatch, feature: Feature, first: int, *, null_is_zero: bool
    ) -> Values:
        """Return a scalar feature, shape (n,), of the feature's type.

        Raises
        ------
        FeatureTableError
            If a value is null, unless those are 0, or does not fit the type.
        """
        array = _plain(batch.column(feature.column))
        if null_is_zero:
            array = pc.fill_null(array, 0)
        self._refuse_null(array, feature.column, first)
        return self._cast(array, feature.dtype, feature.column, first, _what(feature))

    def lists(self, batch: pa.RecordBatch, feature: Feature, first: int) -> tuple[Values, I64]:
        """Return a list feature: all elements, shape (m,), and the n rows' lengths, int64.

        Raises
        ------
        FeatureTableError
            If an element is null or does not fit the type.
        """
        array = _plain(batch.column(feature.column))
        if not _is_list(array.type):  # nothing but null
            return np.empty(0, feature.dtype), np.zeros(len(array), dtype=np.int64)
        lengths = np.asarray(
            pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False),
            dtype=np.int64,
        )
        flat = _plain(array.flatten())
        ends = np.cumsum(lengths)

        def row_of(position: int) -> int:
            return int(np.searchsorted(ends, position, side="right"))

        if flat.null_count:
            at = int(np.asarray(flat.is_null(), dtype=np.bool_).argmax())
            raise self.error("an element of the list is null", feature.column, first + row_of(at))
        values, unfit = cast_values(flat.to_numpy(zero_copy_only=False), feature.dtype)
        if unfit is not None:
            raise self.error(
                f"the list's element {flat[unfit]} is not {_what(feature)}",
                feature.column,
                first + row_of(unfit),
            )
        return values, lengths

    def _refuse_null(self, array: pa.Array, column: str, first: int) -> None:
        if array.null_count:
            at = int(np.asarray(array.is_null(), dtype=np.bool_).argmax())
            raise self.error("is null", column, first + at)

    def _cast(
        self, array: pa.Array, dtype: np.dtype[Any], column: str, first: int, what: str
    ) -> Values:
        values, unfit = cast_values(array.to_numpy(zero_copy_only=False), dtype)
        if unfit is not None:
            raise self.error(f"{array[unfit]} is not {what}", column, first + unfit)
        return values


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())


def _what(feature: Feature) -> str:
    return f"a {feature.dtype.name}, as {feature.wanted_by} takes"


def _plain_type(found: pa.DataType) -> pa.DataType:
    """Return what a type holds, however it is laid out: dictionaries, extensions."""
    while pa.types.is_dictionary(found) or isinstance(found, pa.BaseExtensionType):
        found = found.value_type if pa.types.is_dictionary(found) else found.storage_type
    return found


def _plain(array: pa.Array) -> pa.Array:
    while array.type != _plain_type(array.type):
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array.storage
    # Null is what writers make of a column in which nothing but null was ever seen.
    return array.cast(pa.int64()) if pa.types.is_null(array.type) else array


def _is_list(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(found)
        or pa.types.is_large_list(found)
        or pa.types.is_fixed_size_list(found)
        or pa.types.is_list_view(found)
        or pa.types.is_large_list_view(found)
    )


def _is_number(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(found)
        or pa.types.is_floating(found)
        or pa.types.is_boolean(found)
        or pa.types.is_null(found)
    )
