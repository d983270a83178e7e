"""A bundle's tables: Parquet files read in bounded batches, every value checked and typed."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exporter.bundle import Bundle
from exporter.errors import FeatureTableError
from exporter.features import Content, Feature, Values, cast_values
from exporter.manifest import ID_COLUMNS, TableKind
from gkc.arrays import I64, Bools
from gkc.columns import instead
from gkc.strings import MAX_STRING_BYTES, IdType

_BATCH_BYTES: Final = 4 << 20
_BATCH_ROWS: Final = 16_384
_READ_BUFFER_BYTES: Final = 1 << 20
_ID: Final = "an id within int64; view the ids as int64 or make strings of them, in questions too"
_LEAST_BYTES: Final = {"BYTE_ARRAY": 32}
_NUMBER_BYTES: Final = 8
_MOST_ELEMENTS: Final = 8 << 20
"""Of a list; a few hundred bytes of Parquet may say of one that it has billions."""
_MOST_TEXT_BYTES: Final = 64 << 20
_LISTS: Final = (
    *(pa.ListType, pa.LargeListType, pa.FixedSizeListType),
    *(pa.ListViewType, pa.LargeListViewType),
)


@dataclass(frozen=True, slots=True)
class _File:
    """One Parquet file of a table, as its footer tells of it."""

    name: str
    path: Path
    schema: pa.Schema
    rows: int
    size_bytes: int
    elements: dict[str, int]
    """By column, how many elements its rows have on average in the row group with the most."""

    @classmethod
    def open(cls, bundle: Bundle, name: str) -> _File:
        path = bundle.path(name)
        try:
            with pq.ParquetFile(path) as parquet:
                metadata, schema = parquet.metadata, parquet.schema_arrow
        except (pa.ArrowException, OSError) as exc:
            raise FeatureTableError(name, f"is no readable Parquet file: {_one_line(exc)}") from exc
        elements: dict[str, int] = {}
        for rows, chunk in _chunks(metadata):
            column, mean = chunk.path_in_schema.partition(".")[0], chunk.num_values // max(rows, 1)
            elements[column] = max(mean, elements.get(column, 0))
        return cls(name, path, schema, metadata.num_rows, _size_bytes(metadata), elements)

    @property
    def batch_rows(self) -> int:
        """How many rows are few enough to be read at once."""
        row_bytes = self.size_bytes / max(self.rows, 1)
        return int(min(_BATCH_ROWS, max(1.0, _BATCH_BYTES / max(row_bytes, 1.0))))

    def refuse_long_lists(self, columns: Sequence[str]) -> None:
        """Refuse lists that the footer alone tells to be too long, before they are read."""
        for column in columns:
            if self.elements.get(column, 0) > _MOST_ELEMENTS:
                raise FeatureTableError(self.name, _too_long(self.elements[column]), column=column)

    def column_type(self, column: str) -> pa.DataType:
        places = self.schema.get_all_field_indices(column)
        if len(places) != 1:
            missing = f"the file has no such column; {instead(column, self.schema)}"
            problem = "the file has it twice" if places else missing
            raise FeatureTableError(self.name, problem, column=column)
        return self.schema.field(places[0]).type


def _chunks(metadata: pq.FileMetaData) -> Iterator[tuple[int, pq.ColumnChunkMetaData]]:
    """Yield the parts of all columns, with how many rows each is of."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in range(group.num_columns):
            yield group.num_rows, group.column(column)


def _size_bytes(metadata: pq.FileMetaData) -> int:
    return sum(
        max(
            chunk.total_uncompressed_size,
            chunk.num_values * _LEAST_BYTES.get(chunk.physical_type, _NUMBER_BYTES),
        )
        for _, chunk in _chunks(metadata)
    )


def _too_long(elements: int) -> str:
    return f"a list of {elements:,} elements is longer than the {_MOST_ELEMENTS:,} that are taken"


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
    id_columns : list of str
        Its key, then its category; items may lack that one in a bundle without pairs.
    size_bytes : int
        Uncompressed, as Parquet counts; at least so many for each value that few distinct ones,
        which Parquet writes once, do not pass for nothing.

    Raises
    ------
    FeatureTableError
        If a file is not Parquet.
    """

    def __init__(self, bundle: Bundle, kind: TableKind) -> None:
        self.kind = kind
        files = [_File.open(bundle, name) for name in bundle.tables[kind]]
        # What types a file without rows has says nothing: its writer had none to tell them from.
        self._files = [file for file in files if file.rows] or files[:1]
        self.size_bytes = sum(file.size_bytes for file in self._files)
        self._first_rows = list(itertools.accumulate((f.rows for f in self._files), initial=0))
        self.rows = self._first_rows[-1]
        self.id_columns = [
            column
            for column in ID_COLUMNS[kind]
            # Without pairs, nothing depends on the category of an item.
            if kind != "items" or "user_categories" in bundle.tables or self.has_column(column)
        ]

    def has_column(self, column: str) -> bool:
        """Tell whether the table's first file has a column."""
        return column in self._files[0].schema.names

    def id_type(self, column: str) -> IdType | None:
        """Check that every file has a column of ids, integers or strings, and tell which.

        Returns
        -------
        {"int64", "string"} or None
            None where the table holds nothing but null, which is either.

        Raises
        ------
        FeatureTableError
            If a file lacks it, it holds something else, or the files differ.
        """
        known: tuple[str, IdType] | None = None
        for file, held in self._column_types(column):
            if not pa.types.is_integer(held) and not _is_text(held):
                raise FeatureTableError(
                    file,
                    f"ids must be of an integer type, or strings, not {held}; cast them to int64 "
                    "(in pandas 'Int64', which may be null) or to string",
                    column=column,
                )
            id_type: IdType = "string" if _is_text(held) else "int64"
            if known is not None and known[1] != id_type:
                raise FeatureTableError(
                    file,
                    f"ids are {id_type} here, but {known[1]} in {known[0]}; write all alike",
                    column=column,
                )
            known = known or (file, id_type)
        return known[1] if known else None

    def content(self, column: str) -> Content | None:
        """Check that a column holds numbers, strings or lists of either, and tell which.

        Returns
        -------
        Content or None
            None where the table holds nothing but null, which is any of them.

        Raises
        ------
        FeatureTableError
            If a file lacks it, it holds something else, or the files differ.
        """
        known: Content | None = None
        for file, held in self._column_types(column):
            elements = _elements_of(held)
            if elements is None:
                problem = f"must hold numbers, strings or lists of either, not {held}"
                raise FeatureTableError(file, problem, column=column)
            content = Content(file, _is_list(held), elements)
            if known is not None and not known.fits(content):
                problem = f"holds {content.described}, but {known.file} {known.described}"
                raise FeatureTableError(file, problem, column=column)
            if known is None or known.elements == "nothing":
                known = content
        return known

    def _column_types(self, column: str) -> Iterator[tuple[str, pa.DataType]]:
        """Yield what a column holds in each file in which it holds anything."""
        for file in self._files:
            held = _plain_type(file.column_type(column))
            if self.rows and not pa.types.is_null(held):
                yield file.name, held

    def locate(self, row: int) -> tuple[str, int]:
        """Return the file, and the row within it, of a row of the whole table."""
        place = bisect_right(self._first_rows, row) - 1
        return self._files[place].name, row - self._first_rows[place]

    def error(self, problem: str, column: str, row: int) -> FeatureTableError:
        """Build the error about one row of the whole table."""
        file, inside = self.locate(row)
        return FeatureTableError(file, problem, column=column, row=inside)

    def batches(self, columns: Sequence[str]) -> Iterator[TableBatch]:
        """Read some columns, a bounded number of bytes at a time.

        Raises
        ------
        FeatureTableError
            If a file is damaged, or has lists that are too long.
        """
        names = sorted(set(columns))
        for file, first in zip(self._files, self._first_rows, strict=False):
            row = first
            file.refuse_long_lists(names)
            try:
                # Unbuffered, a column of a row group is held whole; read ahead, the file is.
                with pq.ParquetFile(
                    file.path, buffer_size=_READ_BUFFER_BYTES, pre_buffer=False
                ) as parquet:
                    for batch in parquet.iter_batches(file.batch_rows, columns=names):
                        if batch.num_rows:
                            yield TableBatch(self, row, batch)
                        row += batch.num_rows
            except (pa.ArrowException, OSError) as exc:
                raise FeatureTableError(file.name, f"cannot be read: {_one_line(exc)}") from exc


class TableBatch:
    """Some rows of a table as they were read, and their columns checked as they are asked for.

    Attributes
    ----------
    first : int
        Row of the whole table at which the batch begins.
    rows : int
    """

    def __init__(self, table: FeatureTable, first: int, batch: pa.RecordBatch) -> None:
        self._table = table
        self._batch = batch
        self.first = first
        self.rows: int = batch.num_rows

    def ids(self, column: str) -> I64:
        """Return a column of ids, shape (n,), int64.

        Raises
        ------
        FeatureTableError
            If one is null or outside int64.
        """
        array = self._column(column)
        self._refuse_null(array, column)
        return self._cast(array, np.dtype(np.int64), column, _ID)

    def names(self, column: str, *, may_be_null: bool = False) -> pa.Array:
        """Return a column of ids that are strings, n of Arrow's large_string.

        Raises
        ------
        FeatureTableError
            If one is null, unless it may be, or is not 1 to 128 bytes of UTF-8.
        """
        names = self._column(column)
        if pa.types.is_integer(names.type):  # nothing but null
            names = pa.nulls(len(names), pa.large_string())
        names = names.cast(pa.large_string())
        if not may_be_null:
            self._refuse_null(names, column)
        if (damaged := _first_damaged(names)) is not None:
            raise self._error("is not UTF-8", column, damaged)
        sizes = np.asarray(pc.fill_null(pc.binary_length(names), 1), dtype=np.int64)
        unfit = (sizes < 1) | (sizes > MAX_STRING_BYTES)
        if unfit.any():
            at = int(unfit.argmax())
            problem = f"is a string of {sizes[at]} bytes; an id has 1 to {MAX_STRING_BYTES}"
            raise self._error(problem, column, at)
        return names

    def categories(self, column: str) -> tuple[I64, Bools]:
        """Return a column of ids that may be null or not there: ids, 0 for none, and which are."""
        if column not in self._table.id_columns:
            return np.zeros(self.rows, np.int64), np.zeros(self.rows, np.bool_)
        array = self._column(column)
        known = np.asarray(array.is_valid(), dtype=np.bool_)
        filled = pc.fill_null(array, 0)
        return self._cast(filled, np.dtype(np.int64), column, _ID), known

    def numbers(self, feature: Feature, *, null_is_zero: bool) -> Values:
        """Return a scalar feature, shape (n,), of the feature's type.

        Raises
        ------
        FeatureTableError
            If a value is null, unless those are 0, or does not fit the type.
        """
        array = self._column(feature.column)
        if null_is_zero:
            array = pc.fill_null(array, 0)
        self._refuse_null(array, feature.column)
        return self._cast(array, feature.dtype, feature.column, feature.described)

    def lists(self, feature: Feature) -> tuple[Values, I64]:
        """Return a list feature: all elements, shape (m,), and the n rows' lengths, int64.

        Raises
        ------
        FeatureTableError
            If an element is null or does not fit the type.
        """
        elements, lengths = self._elements(feature.column)
        values, unfit = cast_values(elements.to_numpy(zero_copy_only=False), feature.dtype)
        if unfit is not None:
            problem = f"the list's element {elements[unfit]} is not {feature.described}"
            raise self._error(problem, feature.column, _row_of(unfit, lengths))
        return values, lengths

    def texts(self, feature: Feature, *, null_is_empty: bool) -> pa.Array:
        """Return a scalar feature of strings, n of Arrow's large_string.

        Raises
        ------
        FeatureTableError
            If a value is null, unless those are the empty string, or is not UTF-8.
        """
        texts = self._column(feature.column).cast(pa.large_string())
        if null_is_empty:
            texts = pc.fill_null(texts, "")
        self._refuse_null(texts, feature.column)
        if (damaged := _first_damaged(texts)) is not None:
            raise self._error("is not UTF-8", feature.column, damaged)
        sizes = np.asarray(pc.binary_length(texts), dtype=np.int64)
        if (sizes > _MOST_TEXT_BYTES).any():
            problem = f"is a string of {sizes.max():,} bytes, more than {_MOST_TEXT_BYTES:,}"
            raise self._error(problem, feature.column, int(sizes.argmax()))
        return texts

    def text_lists(self, feature: Feature) -> tuple[pa.Array, I64]:
        """Return a list feature of strings: all elements, large_string, and the n rows' lengths.

        Raises
        ------
        FeatureTableError
            If an element is null or is not UTF-8.
        """
        elements, lengths = self._elements(feature.column)
        texts = elements.cast(pa.large_string())
        if (damaged := _first_damaged(texts)) is not None:
            row = _row_of(damaged, lengths)
            raise self._error("an element of the list is not UTF-8", feature.column, row)
        return texts, lengths

    def _elements(self, column: str) -> tuple[pa.Array, I64]:
        """Return the elements of all lists of a column, none of them null, and the lengths."""
        array = self._column(column)
        if not _is_list(array.type):  # nothing but null
            return pa.array([], pa.int64()), np.zeros(len(array), dtype=np.int64)
        lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64)
        if (lengths > _MOST_ELEMENTS).any():
            raise self._error(_too_long(lengths.max()), column, int(lengths.argmax()))
        elements = _plain(array.flatten())
        if elements.null_count:
            row = _row_of(_first_null(elements), lengths)
            raise self._error("an element of the list is null", column, row)
        return elements, lengths

    def _column(self, name: str) -> pa.Array:
        return _plain(self._batch.column(name))

    def _refuse_null(self, array: pa.Array, column: str) -> None:
        if array.null_count:
            raise self._error("is null", column, _first_null(array))

    def _cast(self, array: pa.Array, dtype: np.dtype[Any], column: str, described: str) -> Values:
        values, unfit = cast_values(array.to_numpy(zero_copy_only=False), dtype)
        if unfit is not None:
            raise self._error(f"{array[unfit]} is not {described}", column, unfit)
        return values

    def _error(self, problem: str, column: str, row: int) -> FeatureTableError:
        return self._table.error(problem, column, self.first + row)


def _row_of(element: int, lengths: I64) -> int:
    return int(np.searchsorted(np.cumsum(lengths), element, side="right"))


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())


def _first_null(array: pa.Array) -> int:
    return int(np.asarray(array.is_null(), dtype=np.bool_).argmax())


def _plain_type(held: pa.DataType) -> pa.DataType:
    """Return what a type holds, however it is laid out: dictionaries, extensions."""
    while pa.types.is_dictionary(held) or isinstance(held, pa.BaseExtensionType):
        held = held.value_type if pa.types.is_dictionary(held) else held.storage_type
    return held


def _plain(array: pa.Array) -> pa.Array:
    while array.type != _plain_type(array.type):
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array.storage
    # Null is what writers make of a column in which nothing but null was ever seen.
    return array.cast(pa.int64()) if pa.types.is_null(array.type) else array


def _first_damaged(texts: pa.Array) -> int | None:
    """Return the place of the first string that is not UTF-8, which Parquet does not check."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        raw = texts.cast(pa.large_binary()).to_pylist()
        return next(
            place for place, text in enumerate(raw) if text is not None and not _is_utf8(text)
        )
    return None


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_list(held: pa.DataType) -> bool:
    return isinstance(held, _LISTS)


def _elements_of(held: pa.DataType) -> Literal["numbers", "strings", "nothing"] | None:
    """Return what a column's values, or its lists' elements, are; None if nothing that we feed."""
    element = _plain_type(held.value_type) if _is_list(held) else held
    if pa.types.is_null(element):
        return "nothing"
    if _is_number(element):
        return "numbers"
    return "strings" if _is_text(element) else None


def _is_text(held: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(held) or pa.types.is_large_string(held) or pa.types.is_string_view(held)
    )


def _is_number(held: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(held) or pa.types.is_floating(held) or pa.types.is_boolean(held)
    )
