"""Feature tables: Parquet files read in bounded batches, checked, and turned into typed columns."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exporter.bundle import Bundle, TableKind
from exporter.errors import FeatureTableError
from exporter.features import Feature, Values, cast_values
from gkc.arrays import I64

_BATCH_BYTES: Final = 4 << 20
_BATCH_ROWS: Final = 16_384
_READ_BUFFER_BYTES: Final = 1 << 20


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
        self._files = bundle.table_files(kind)
        self._paths = [bundle.path(f) for f in self._files]
        self._schemas: list[pa.Schema] = []
        counts = []
        self.size_bytes = 0
        for file, path in zip(self._files, self._paths, strict=True):
            metadata, schema = _metadata(file, path)
            self._schemas.append(schema)
            counts.append(metadata.num_rows)
            self.size_bytes += sum(
                metadata.row_group(g).total_byte_size for g in range(metadata.num_row_groups)
            )
        self._first_rows = list(itertools.accumulate(counts, initial=0))
        self.rows = self._first_rows[-1]

    def has_column(self, column: str) -> bool:
        """Tell whether the table's first file has a column."""
        return column in self._schemas[0].names

    def require_ids(self, column: str) -> None:
        """Check that every file has a column of some integer type.

        Raises
        ------
        FeatureTableError
            If one lacks it, or it holds something else.
        """
        for file, found in self._column_types(column):
            if not (pa.types.is_integer(found) or pa.types.is_null(found)):
                raise FeatureTableError(
                    file, f"ids must be of an integer type, not {found}", column=column
                )

    def is_list(self, column: str) -> bool:
        """Check that a column holds numbers or lists of numbers, and tell which.

        Raises
        ------
        FeatureTableError
            If a file lacks it, it holds something else, or the files differ.
        """
        kinds = set()
        for file, found in self._column_types(column):
            element = found.value_type if _is_list(found) else found
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
        return kinds.pop()

    def _column_types(self, column: str) -> Iterator[tuple[str, pa.DataType]]:
        for file, schema in zip(self._files, self._schemas, strict=True):
            places = schema.get_all_field_indices(column)
            if len(places) != 1:
                problem = "the file has no such column" if not places else "the file has it twice"
                raise FeatureTableError(file, problem, column=column)
            found = schema.field(places[0]).type
            yield file, found.value_type if pa.types.is_dictionary(found) else found

    def locate(self, row: int) -> tuple[str, int]:
        """Return the file, and the row within it, of a row of the whole table."""
        place = bisect_right(self._first_rows, row) - 1
        return self._files[place], row - self._first_rows[place]

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
        for file, path, first in zip(self._files, self._paths, self._first_rows, strict=False):
            row = first
            try:
                # Unbuffered, a column of a row group is held whole; read ahead, the file is.
                with pq.ParquetFile(
                    path, buffer_size=_READ_BUFFER_BYTES, pre_buffer=False
                ) as parquet:
                    for batch in parquet.iter_batches(batch_rows, columns=names):
                        yield row, batch
                        row += batch.num_rows
            except (pa.ArrowException, OSError) as exc:
                raise FeatureTableError(file, f"cannot be read: {_one_line(exc)}") from exc

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
        array = batch.column(feature.column)
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


def _metadata(file: str, path: Path) -> tuple[pq.FileMetaData, pa.Schema]:
    try:
        with pq.ParquetFile(path) as parquet:
            return parquet.metadata, parquet.schema_arrow
    except (pa.ArrowException, OSError) as exc:
        raise FeatureTableError(file, f"is no readable Parquet file: {_one_line(exc)}") from exc


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())


def _what(feature: Feature) -> str:
    return f"a {feature.dtype.name}, as {feature.wanted_by} takes"


def _plain(array: pa.Array) -> pa.Array:
    if pa.types.is_null(array.type):
        # What writers make of a column in which nothing but null was ever seen.
        return array.cast(pa.int64())
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _is_list(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(found)
        or pa.types.is_large_list(found)
        or pa.types.is_fixed_size_list(found)
    )


def _is_number(found: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(found)
        or pa.types.is_floating(found)
        or pa.types.is_boolean(found)
        or pa.types.is_null(found)
    )
