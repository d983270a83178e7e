"""How models are fed: inputs matched with columns, and with the manifest's row for unknown ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from exporter.bundle import Bundle
from exporter.errors import BundleError, FeatureTableError
from exporter.features import TEXT, Feature, Values, blank, cast_values, type_name
from exporter.manifest import MANIFEST, Number, TableKind, UnknownValue
from exporter.models import Model, ModelInput
from exporter.partitions import PartitionedTable, TableRows, Tables
from exporter.tables import FeatureTable
from gkc.arrays import I64

_LONGEST: Final = 0
_REMEDY: Final = "cast the column, or give the model an input of its type"
_NUMBERS: Final = ", or add a column of integers and name that"

Chosen = Mapping[TableKind, tuple[TableRows, I64]]
"""Loaded rows of each table, and which of them each of n input rows takes, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A column that feeds an input, alone or beside others."""

    table: TableKind
    feature: Feature

    def gather(self, chosen: Chosen, width: int) -> Values:
        """Return its values for some rows, shape (n,), or (n, width) of lists."""
        rows, places = chosen[self.table]
        key = self.feature.key
        if self.feature.is_list:
            values = rows.lists[key].padded(places, width)
        else:
            values = rows.numbers[key][places]
        return rows.words[key][values] if self.feature.is_text else values

    def of_unknown(self, value: UnknownValue, width: int) -> Values:
        """Return the same of one row for a value of the manifest; null is an empty list, or blank.

        Raises
        ------
        BundleError
            If it is not what the column holds, or does not fit the input's type.
        """
        feature = self.feature
        if value is None:
            value = [] if feature.is_list else blank(feature.dtype)
        elements = value if isinstance(value, list) else [value]
        if isinstance(value, list) != feature.is_list:
            raise self._misfit(value)
        values = _elements(elements, feature.dtype)
        if values is None:
            raise self._misfit(value)
        if not feature.is_list:
            return values
        kept = values[-width:]
        row = np.full((1, width), blank(feature.dtype), feature.dtype)
        row[0, : len(kept)] = kept
        return row

    def _misfit(self, value: UnknownValue) -> BundleError:
        return BundleError(
            MANIFEST,
            f"'unknown' gives {self.feature.column!r} the value {value!r}, "
            f"which does not fit {self.feature.fed_to}",
        )


def _elements(elements: Sequence[Number | str], dtype: np.dtype[Any]) -> Values | None:
    """Give elements of the manifest the type that an input takes; None if one does not fit."""
    if any(isinstance(element, str) != (dtype == TEXT) for element in elements):
        return None
    if dtype == TEXT:
        return np.array(elements, TEXT)
    values = np.asarray(elements)
    try:
        if values.dtype.kind == "O":  # an integer beyond 64 bits
            values = values.astype(np.float64)
        cast, unfit = cast_values(values, dtype)
    except OverflowError:
        return None
    return cast if unfit is None else None


@dataclass(frozen=True, slots=True)
class Feed:
    """How one input of a model is fed.

    Attributes
    ----------
    input : ModelInput
    sources : tuple of Source
        One list, one scalar, or several scalars side by side.
    width : int
        Elements of a row: the number of scalars; of a list, what it is padded to. `plan_feeds`
        gives 0 where the table's longest list decides, which is known when it has been read.
    """

    input: ModelInput
    sources: tuple[Source, ...]
    width: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of this input."""
        return self.input.dtype.itemsize * self.width

    def of_known_width(self, tables: Mapping[TableKind, PartitionedTable]) -> Feed:
        """Return the feed with the width that the tables, which have been read, decide."""
        if self.width != _LONGEST:
            return self
        (source,) = self.sources
        return replace(self, width=tables[source.table].longest[source.feature.column])

    def gather(self, chosen: Chosen) -> Values:
        """Return the input for some rows, shape (n,) or (n, width)."""
        return self._side_by_side([source.gather(chosen, self.width) for source in self.sources])

    def of_unknown(self, row: Mapping[str, UnknownValue]) -> Values:
        """Return the input of one row for values of the manifest, by column.

        Raises
        ------
        BundleError
            If one is not what its column holds, or does not fit the input's type.
        """
        values = [s.of_unknown(row[s.feature.column], self.width) for s in self.sources]
        return self._side_by_side(values)

    def _side_by_side(self, values: list[Values]) -> Values:
        if self.sources[0].feature.is_list:
            return values[0]
        is_matrix = self.input.is_stacked or self.input.rank == 2
        return np.stack(values, axis=1) if is_matrix else values[0]


def plan_feeds(bundle: Bundle, model: Model, tables: Tables) -> list[Feed]:
    """Match a model's inputs with columns.

    A column of the user_category model is looked for among the pairs first, then among the users.

    Raises
    ------
    FeatureTableError
        If a column is missing, or holds nothing that feeds the input.
    BundleError
        If a column's shape, or the number of columns, does not fit the input.
    """
    return [_feed(bundle, model, node, tables) for node in model.inputs]


def _feed(bundle: Bundle, model: Model, node: ModelInput, tables: Tables) -> Feed:
    what = f"input {node.name!r} of {model.file}"
    sources = tuple(_source(model, node, what, column, tables) for column in node.columns)
    problem = _misshape(node, sources[0].feature.is_list)
    if problem is not None:
        raise BundleError(MANIFEST, f"{what} {problem}")
    if not sources[0].feature.is_list:
        return Feed(node, sources, len(sources))
    return Feed(node, sources, node.width or bundle.manifest.pad.get(node.columns[0], _LONGEST))


def _source(model: Model, node: ModelInput, what: str, column: str, tables: Tables) -> Source:
    table = _table_of(model, column, tables)
    content = table.content(column)
    if content is not None and not content.feeds(node.dtype):
        problem = f"holds {content.described}, but {what} takes {type_name(node.dtype)}"
        remedy = _REMEDY + (_NUMBERS if content.elements == "strings" else "")
        raise FeatureTableError(content.file, f"{problem}: {remedy}", column=column)
    if content is None:
        is_list = not node.is_stacked and node.rank == 2 and node.width != 1
    elif content.is_list and node.is_stacked:
        problem = f"holds {content.described}, which cannot stand beside other columns in {what}"
        raise FeatureTableError(content.file, problem, column=column)
    else:
        is_list = content.is_list
    return Source(table.kind, Feature(column, node.dtype, is_list, what))


def _table_of(model: Model, column: str, tables: Tables) -> FeatureTable:
    if model.kind == "user_category" and not model.table.has_column(column):
        return tables["users"]
    return model.table


def _misshape(node: ModelInput, is_list: bool) -> str | None:
    """Say how an input's shape does not fit the columns that feed it; None if it does."""
    columns = ", ".join(node.columns)
    if is_list:
        return (
            f"has one dimension, but its column {columns!r} holds lists" if node.rank == 1 else None
        )
    if node.is_stacked and node.rank == 1:
        return f"has one dimension, but a list of columns is to feed it: {columns}"
    if node.width in (None, len(node.columns)):
        return None
    if node.is_stacked:
        return f"is {node.width} wide, but {len(node.columns)} in the list of columns: {columns}"
    return f"is {node.width} wide, but its column {columns!r} holds no lists"


def unknown_inputs(feeds: list[Feed], row: Mapping[str, UnknownValue]) -> dict[str, Values]:
    """Turn the manifest's row for unknown ids, by column, into a model's inputs of one row."""
    return {feed.input.name: feed.of_unknown(row) for feed in feeds}
