"""Rows of a table as questions: which columns hold ids, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from gkc.arrays import I64, Bools
from gkc.center.checks import NO_CATEGORIES, Categories, unfit_string
from gkc.center.question import Columns
from gkc.columns import instead
from gkc.errors import TableFileError
from gkc.store import GenerationSpec
from gkc.strings import Ids, IdType, StringIds

USER: Final = "user_id"
ITEM: Final = "item_id"
CATEGORY: Final = "category_id"
_ONE_VERSION: Final = np.zeros(1, dtype=np.int64)
_IN_WORDS: Final[dict[IdType, str]] = {
    "int64": "integers there; cast the column to int64",
    "string": "strings there; cast the column to string",
}


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
    added : sequence of str
        Columns that are to be added.
    null_columns : collection of str
        Columns that hold null in every row, so that their type tells nothing.

    Attributes
    ----------
    columns : list of str
        The columns that questions are made of.

    Raises
    ------
    TableFileError
        If a column is missing, is there twice, or holds something else, or one that is to be added
        is there already.
    """

    def __init__(
        self,
        table: str,
        schema: pa.Schema,
        version: str | None,
        version_column: str | None,
        added: Sequence[str] = (),
        null_columns: Collection[str] = (),
    ) -> None:
        self._table = table
        self._schema = schema
        self._null_columns = null_columns
        self._version = version
        self._version_column = version_column
        self._ids = [USER, ITEM, *([CATEGORY] if CATEGORY in schema.names else [])]
        for name in added:
            if name in schema.names:
                problem = "is there already; choose other names by --prefix, such as --prefix gkc_"
                raise TableFileError(table, problem, name)
        for name in self._ids:
            self._require_ids(name)
        if version_column is not None:
            self._require_names(version_column)
        self.columns = self._ids + ([] if version_column is None else [version_column])

    def require_types(self, spec: GenerationSpec) -> None:
        """Check that ids are of a version's types.

        Raises
        ------
        TableFileError
            If those of a column are not.
        """
        types = id_types(spec)
        for name in self._ids:
            held = self._type(name)
            if not pa.types.is_null(held) and _is_string(held) != (types[name] == "string"):
                problem = f"holds {held}, but version {spec.version!r} has {_IN_WORDS[types[name]]}"
                raise TableFileError(self._table, problem, name)

    def read(self, batch: pa.RecordBatch, first: int) -> Columns:
        """Return what some rows ask, the first of which is row ``first`` of the table.

        Raises
        ------
        TableFileError
            If a user, an item or a version is null, or an id is outside int64, or no string of 1 to
            128 bytes of UTF-8.
        """
        versions, index = self.versions(batch, first)
        users = self._without_null(batch, USER, first)
        items = self._without_null(batch, ITEM, first)
        categories, has_category = self._categories(batch, first)
        return Columns(
            n=batch.num_rows,
            users=self._column(users, USER, first),
            items=self._column(items, ITEM, first),
            categories=categories,
            has_category=has_category,
            versions=versions,
            version_index=index,
        )

    def versions(self, batch: pa.RecordBatch, first: int) -> tuple[tuple[str, ...], I64]:
        """Return the distinct versions of some rows, and which of them each row has."""
        if self._version_column is None:
            assert self._version is not None
            return (self._version,), _ONE_VERSION
        names = self._without_null(batch, self._version_column, first)
        coded = names.cast(pa.binary()).dictionary_encode()
        versions = tuple(name.decode(errors="replace") for name in coded.dictionary.to_pylist())
        index = np.asarray(coded.indices, dtype=np.int64)
        return versions, index if len(versions) != 1 else _ONE_VERSION

    def error(self, problem: str, column: str, row: int) -> TableFileError:
        """Return the error about one row of the table."""
        return TableFileError(self._table, problem, column, row)

    def _categories(self, batch: pa.RecordBatch, first: int) -> Categories:
        if CATEGORY not in self._ids:
            return NO_CATEGORIES
        column = _plain(batch.column(CATEGORY))
        if column.null_count == len(column):
            return NO_CATEGORIES
        is_given = np.asarray(column.is_valid(), dtype=np.bool_)
        return self._column(column, CATEGORY, first, is_given), is_given

    def _column(self, ids: pa.Array, name: str, first: int, is_given: Bools | None = None) -> Ids:
        """Return a column's ids, whatever stands where none is given."""
        if not _is_string(ids.type):
            return self._numbers(ids, name, first)
        strings = _strings(ids)
        if (unfit := strings.first_unfit(is_given)) is not None:
            raise self.error(unfit_string(strings, unfit), name, first + unfit)
        return strings

    def _numbers(self, ids: pa.Array, name: str, first: int) -> I64:
        ids = ids.fill_null(0)
        try:
            numbers: I64 = ids.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid as exc:
            row = int(np.argmax(ids.to_numpy() > np.uint64(2**63 - 1)))
            remedy = "view the ids as int64 or make strings of them, in the bundle too"
            problem = f"{ids[row]} is beyond int64; {remedy}"
            raise self.error(problem, name, first + row) from exc
        return numbers

    def _without_null(self, batch: pa.RecordBatch, name: str, first: int) -> pa.Array:
        column = _plain(batch.column(name))
        if column.null_count:
            row = int(np.asarray(column.is_null(), dtype=np.bool_).argmax())
            raise self.error("is null; fill it, or leave such rows out", name, first + row)
        return column

    def _require_ids(self, name: str) -> None:
        held = self._type(name)
        if not (pa.types.is_integer(held) or _is_string(held) or pa.types.is_null(held)):
            problem = f"ids are integers or strings, not {held}; cast them to int64 or string"
            raise TableFileError(self._table, problem, name)

    def _require_names(self, name: str) -> None:
        held = self._type(name)
        if not (_is_string(held) or pa.types.is_null(held)):
            problem = f"versions are strings such as '20211220', not {held}; cast them to string"
            raise TableFileError(self._table, problem, name)

    def _type(self, name: str) -> pa.DataType:
        """Return what a column holds, however it is laid out."""
        places = self._schema.get_all_field_indices(name)
        if not places:
            problem = f"there is no column {name!r}; {instead(name, self._schema)}"
            raise TableFileError(self._table, problem)
        if len(places) > 1:
            raise TableFileError(self._table, "is there twice", name)
        if name in self._null_columns:
            return pa.null()
        return _plain_type(self._schema.field(places[0]).type)


def id_types(spec: GenerationSpec) -> dict[str, IdType]:
    """Return of what type a version's ids are, by column."""
    return {USER: spec.user_id_type, ITEM: spec.item_id_type, CATEGORY: spec.category_id_type}


def _plain_type(held: pa.DataType) -> pa.DataType:
    """Return what a type holds, however it is laid out: dictionaries, extensions."""
    while pa.types.is_dictionary(held) or isinstance(held, pa.BaseExtensionType):
        held = held.value_type if pa.types.is_dictionary(held) else held.storage_type
    return held


def _plain(array: pa.Array) -> pa.Array:
    while array.type != _plain_type(array.type):
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array.storage
    return array


def _strings(texts: pa.Array) -> StringIds:
    """Return a column of strings, which shares their memory; Arrow has not looked at its bytes."""
    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset :][: len(texts) + 1]
    raw = np.frombuffer(data or b"", dtype=np.uint8)
    return StringIds(raw[ends[0] : ends[-1]], ends - ends[0])


def _is_string(held: pa.DataType) -> bool:
    kinds: list[Any] = [pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view]
    return any(kind(held) for kind in kinds)
