"""JD's public action logs, JData 2016 and JData 2019, with their product tables.

Both are CSV with a header. Their types differ, so the header says which it is: ``time`` is 2016's
name of the time column, ``action_time`` is 2019's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gkc.arrays import I64
from keep.errors import SourceFormatError
from keep.sources.actions import (
    CART,
    CHINA_OFFSET_SECONDS,
    CLICK,
    CONVERSION,
    LEFT_OUT,
    ActionBatch,
    ActionOptions,
    ActionSource,
    Bounds,
    import_actions,
)
from keep.sources.csv_batches import csv_batches, kinds_of, read_header, refuse
from keep.sources.spill import Advance

NAME = "jd"
TYPES_2016 = {1: CLICK, 2: CART, 3: LEFT_OUT, 4: CONVERSION, 5: LEFT_OUT, 6: CLICK}
"""1 browse, 2 add to cart, 3 delete from cart, 4 buy, 5 favourite, 6 click."""
TYPES_2019 = {1: CLICK, 2: CONVERSION, 3: LEFT_OUT, 4: LEFT_OUT, 5: CART}
"""1 browse, 2 buy, 3 follow, 4 comment, 5 add to cart."""
SOURCE_2016 = (
    "JD JData 2016 action log: type 1 (browse) and 6 (click) are clicks, 2 an add-to-cart, 4 a "
    "conversion; 3 (deleted from the cart) and 5 (favourite) are left out."
)
SOURCE_2019 = (
    "JD JData 2019 action log: type 1 (browse) is a click, 5 an add-to-cart, 2 a conversion; 3 "
    "(follow) and 4 (comment) are left out."
)
SOURCE_BOTH = (
    " Times are read as China Standard Time. Shop and category are those of the product table "
    "(shop: shop_id, else brand), else the action's own brand and cate, else 0."
)
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
TIME_PATTERN = r"^.{19}(\.[0-9]+)?$"
"""Nothing but a fraction of a second stands behind a time."""
SHOWN_LETTERS = 40
"""Of a wrong value."""
CITATION = "JD.com, JData competition data sets of 2016 and 2019"
LICENCE = "as of the source: see the terms under which the files were downloaded"

ATTRIBUTES = {"shop": ("shop_id", "brand"), "category": ("cate",)}
"""Columns that tell an item's shop and category, the first that is there."""


@dataclass(frozen=True)
class Products:
    """A product table: for each item its shop and category."""

    item: I64
    """(n,) int64, ascending."""
    attributes: Mapping[str, I64]
    """``shop`` and ``category``, (n,) int64 each."""


def import_jd(
    files: Sequence[Path], out: Path, options: ActionOptions, bounds: Bounds, advance: Advance
) -> int:
    """Write a log from JD's action logs and product tables; return the rows outside the bounds.

    Files come in any order; one with a ``user_id`` column is an action log, else a product table.
    Bounds are the first and last calendar day (UTC+8, days since 1970) that is kept.

    Raises
    ------
    SourceFormatError
        If a file is not in either format, the files mix both, or a few wrong timestamps would
        decide the log's days.
    LogSchemaError, LogPathTakenError
        If the log cannot be written.
    """
    headers = {file: read_header(file) for file in files}
    logs = [file for file, header in headers.items() if "user_id" in header]
    time_column = _time_column(logs, headers)
    products = _read_products([f for f in files if f not in logs], headers, advance)
    is_2016 = time_column == "time"
    kinds, text = (TYPES_2016, SOURCE_2016) if is_2016 else (TYPES_2019, SOURCE_2019)
    too_late = "is after the year 2099"
    source = ActionSource(NAME, text + SOURCE_BOTH, CITATION, LICENCE, time_column, too_late)
    reader = _ActionReader(time_column, kinds, products, advance)
    batches = (batch for file in logs for batch in reader.batches(file, headers[file]))
    return import_actions(source, batches, logs, out, options, bounds)


def _time_column(logs: Sequence[Path], headers: Mapping[Path, list[str]]) -> str:
    """Tell 2016's logs from 2019's by the name of the time column."""
    if not logs:
        first = next(iter(headers))
        raise SourceFormatError(first, "no file given has a user_id column: name an action log", 1)
    columns = {}
    for file in logs:
        header = headers[file]
        names = [name for name in ("action_time", "time") if name in header]
        missing = sorted({"user_id", "sku_id", "type"} - set(header))
        if not names or missing:
            reason = f"has no column {(missing or ['action_time'])[0]!r} among {', '.join(header)}"
            raise SourceFormatError(file, reason, 1)
        columns[file] = names[0]
    if len(set(columns.values())) > 1:
        raise SourceFormatError(logs[0], "the files are of both 2016 and 2019: import one of them")
    return columns[logs[0]]


def _read_products(
    files: Sequence[Path], headers: Mapping[Path, list[str]], advance: Advance
) -> Products:
    """Read product tables into one; of an item in several, the first row counts."""
    columns: dict[str, list[I64]] = {"item": [], "shop": [], "category": []}
    for file in files:
        header = headers[file]
        if "sku_id" not in header:
            raise SourceFormatError(file, "has neither a user_id nor a sku_id column", 1)
        chosen = {kind: _first_of(names, header) for kind, names in ATTRIBUTES.items()}
        types = {name: pa.int64() for name in ("sku_id", *chosen.values()) if name}
        for _, batch in csv_batches(file, types, advance):
            columns["item"].append(batch.column("sku_id").to_numpy())
            for kind, name in chosen.items():
                columns[kind].append(_column_or_zeros(batch, name))
    whole = {kind: np.concatenate([np.empty(0, np.int64), *c]) for kind, c in columns.items()}
    item, first = np.unique(whole.pop("item"), return_index=True)
    return Products(item, {kind: column[first] for kind, column in whole.items()})


@dataclass(frozen=True)
class _ActionReader:
    """Reads action logs of one year."""

    time_column: str
    kinds: Mapping[int, int]
    products: Products
    advance: Advance

    def batches(self, file: Path, header: list[str]) -> Iterator[ActionBatch]:
        """Read one file."""
        attributes = {kind: _first_of(names, header) for kind, names in ATTRIBUTES.items()}
        types = {"user_id": pa.float64(), "sku_id": pa.int64(), "type": pa.int64()}
        types |= {self.time_column: pa.string()}
        types |= {name: pa.int64() for name in attributes.values() if name}
        listed = str(list(self.kinds))
        for line, batch in csv_batches(file, types, self.advance):
            time = self._seconds(file, line, batch.column(self.time_column))
            kind = kinds_of(file, line, batch, "type", self.kinds, listed)
            item = batch.column("sku_id").to_numpy()
            columns = {"user": _whole_ids(file, line, batch), "item": item, "time": time}
            for attribute, name in attributes.items():
                columns[attribute] = self._attribute(item, attribute, batch, name)
            yield ActionBatch(file, line, {**columns, "kind": kind})

    def _seconds(self, file: Path, line: int, text: Any) -> I64:  # noqa: ANN401
        """Read ``2016-02-01 23:59:02``, with or without a fraction, as Unix seconds."""
        whole = pc.utf8_slice_codeunits(text, 0, 19)
        moment = pc.strptime(whole, format=TIME_FORMAT, unit="s", error_is_null=True)
        # It would take 30 February for 2 March: a time that there is reads the same when written.
        is_time = pc.fill_null(pc.equal(pc.strftime(moment, format=TIME_FORMAT), whole), False)
        holds = pc.and_(is_time, pc.match_substring_regex(text, TIME_PATTERN))
        bad = ~holds.to_numpy(zero_copy_only=False)
        if bad.any():
            value = text[int(bad.argmax())].as_py()[:SHOWN_LETTERS]
            reason = f"{value!r} is no time as YYYY-MM-DD HH:MM:SS"
            refuse(file, line, bad, reason, self.time_column)
        seconds: I64 = moment.cast(pa.int64()).to_numpy() - CHINA_OFFSET_SECONDS
        return seconds

    def _attribute(self, item: I64, kind: str, batch: Any, name: str) -> I64:  # noqa: ANN401
        """Take an attribute from the product table, else from the action, else 0."""
        of_action = _column_or_zeros(batch, name)
        known = self.products.item
        if len(known) == 0:
            return of_action
        spot = np.minimum(np.searchsorted(known, item), len(known) - 1)
        return np.where(known[spot] == item, self.products.attributes[kind][spot], of_action)


def _whole_ids(file: Path, line: int, batch: Any) -> I64:  # noqa: ANN401
    """Read user ids, which 2016's files write as 266079.0."""
    ids = batch.column("user_id").to_numpy()
    bad = (ids != np.rint(ids)) | (np.abs(ids) >= 2.0**53)
    refuse(file, line, bad, "is not a whole number within 2^53", "user_id")
    whole: I64 = ids.astype(np.int64)
    return whole


def _first_of(names: Sequence[str], header: Sequence[str]) -> str:
    return next((name for name in names if name in header), "")


def _column_or_zeros(batch: Any, name: str) -> I64:  # noqa: ANN401
    if not name:
        return np.zeros(batch.num_rows, dtype=np.int64)
    column: I64 = batch.column(name).to_numpy()
    return column
