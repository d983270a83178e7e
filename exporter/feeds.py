"""Which column of which table feeds which input of which model, and in what shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from exporter.bundle import Bundle
from exporter.errors import BundleError
from exporter.features import Feature, ListColumn, Values, cast_values
from exporter.inference import Model, ModelInput
from exporter.manifest import MANIFEST, TableKind, UnknownValue
from exporter.tables import FeatureTable

Tables = Mapping[TableKind, FeatureTable]


@dataclass(frozen=True, slots=True)
class Feed:
    """How one input of a model is fed.

    Attributes
    ----------
    input : ModelInput
    table : {"users", "items", "user_categories"}
    feature : Feature
    width : int or None
        Width that lists are padded to; None for the table's longest list.
    """

    input: ModelInput
    table: TableKind
    feature: Feature
    width: int | None

    def shaped(self, values: Values) -> Values:
        """Give a scalar's values, shape (n,), the rank that the input has."""
        return values[:, np.newaxis] if self.input.rank == 2 else values


def plan_feeds(bundle: Bundle, model: Model, tables: Tables) -> list[Feed]:
    """Match a model's inputs with columns.

    A column of the user_category model is looked for among the pairs first, then among the users.

    Raises
    ------
    FeatureTableError
        If a column is missing or is no number or list.
    BundleError
        If a column's shape does not fit the input.
    """
    return [
        _feed(bundle, model, given, _table_of(model, given.column, tables))
        for given in model.inputs
    ]


def _table_of(model: Model, column: str, tables: Tables) -> FeatureTable:
    if model.kind == "item":
        return tables["items"]
    if model.kind == "user_category" and tables["user_categories"].has_column(column):
        return tables["user_categories"]
    return tables["users"]


def _feed(bundle: Bundle, model: Model, given: ModelInput, table: FeatureTable) -> Feed:
    is_list = table.is_list(given.column)
    if is_list is None:
        is_list = given.rank == 2 and given.width != 1
    what = f"input {given.name!r} of {model.file}"
    if is_list and given.rank == 1:
        raise BundleError(
            MANIFEST, f"{what} has one dimension, but its column {given.column!r} holds lists"
        )
    if not is_list and given.width not in (None, 1):
        raise BundleError(
            MANIFEST,
            f"{what} is {given.width} wide, but its column {given.column!r} holds single numbers",
        )
    feature = Feature(given.column, given.dtype, is_list, what)
    width = (given.width or bundle.pad.get(given.column)) if is_list else None
    return Feed(given, table.kind, feature, width)


def unknown_inputs(
    feeds: list[Feed], row: Mapping[str, UnknownValue], longest: Mapping[tuple[TableKind, str], int]
) -> dict[str, Values]:
    """Turn the manifest's row for unknown ids into a model's inputs of one row.

    Parameters
    ----------
    feeds : list of Feed
    row : mapping of str to number or list
        By column; null stands for an empty list, or for 0.
    longest : mapping
        Length of the longest list of each list column of each table.

    Raises
    ------
    BundleError
        If a value is not what the column holds, or does not fit the input's type.
    """
    inputs: dict[str, Values] = {}
    for feed in feeds:
        value = row[feed.feature.column]
        if value is not None and isinstance(value, list) != feed.feature.is_list:
            raise _misfit(feed, value)
        elements = (
            value if isinstance(value, list) else [] if feed.feature.is_list else [value or 0]
        )
        try:
            values, unfit = cast_values(np.asarray(elements), feed.feature.dtype)
        except OverflowError as exc:
            raise _misfit(feed, value) from exc
        if unfit is not None or values.dtype.kind == "O":
            raise _misfit(feed, value)
        if feed.feature.is_list:
            lists = ListColumn(values, np.zeros(1, np.int64), np.asarray([len(values)], np.int64))
            width = feed.width or longest[feed.table, feed.feature.column]
            inputs[feed.input.name] = lists.padded(np.zeros(1, np.int64), width)
        else:
            inputs[feed.input.name] = feed.shaped(values)
    return inputs


def _misfit(feed: Feed, value: UnknownValue) -> BundleError:
    return BundleError(
        MANIFEST,
        f"'unknown' gives {feed.feature.column!r} the value {value!r}, "
        f"which does not fit {feed.feature.wanted_by}",
    )
