"""Taobao's ``UserBehavior.csv``: user, item, category, behaviour, Unix seconds; no header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from keep.sources.actions import (
    CART,
    CLICK,
    CONVERSION,
    LEFT_OUT,
    ActionBatch,
    ActionOptions,
    ActionSource,
    Bounds,
    import_actions,
)
from keep.sources.csv_batches import csv_batches, kinds_of
from keep.sources.spill import Advance

NAME = "taobao"
HEADER = ("user", "item", "category", "behavior", "timestamp")
KINDS = {"pv": CLICK, "cart": CART, "buy": CONVERSION, "fav": LEFT_OUT}
"""Behaviours and what they count as."""
SOURCE = (
    "Taobao UserBehavior.csv (user, item, category, behaviour, Unix seconds): pv is a click, cart "
    "an add-to-cart, buy a conversion, fav is left out. The set names no shops: shop is 0."
)
CITATION = (
    "Alibaba Tianchi, User Behavior Data from Taobao for Recommendation, data set 649; "
    "H. Zhu et al. 2018. Learning Tree-based Deep Model for Recommender Systems. KDD. "
    "doi:10.1145/3219819.3219826"
)
LICENCE = "as of the source: see the terms under which UserBehavior.csv was downloaded"


def import_taobao(
    file: Path, out: Path, options: ActionOptions, bounds: Bounds, advance: Advance
) -> int:
    """Write a log from ``UserBehavior.csv``; return the rows outside the bounds.

    Bounds are the first and last calendar day (UTC+8, days since 1970) that is kept.

    Raises
    ------
    SourceFormatError
        If a line is not in the format, or a few wrong timestamps would decide the log's days.
    LogSchemaError, LogPathTakenError
        If the log cannot be written.
    """
    source = ActionSource(NAME, SOURCE, CITATION, LICENCE, time_column="timestamp")
    return import_actions(source, _batches(file, advance), [file], out, options, bounds)


def _batches(file: Path, advance: Advance) -> Iterator[ActionBatch]:
    types = dict.fromkeys(HEADER, pa.int64()) | {"behavior": pa.string()}
    for line, batch in csv_batches(file, types, advance, HEADER):
        columns = {name: batch.column(name).to_numpy() for name in ("user", "item", "category")}
        columns["shop"] = np.zeros_like(columns["user"])
        columns["time"] = batch.column("timestamp").to_numpy()
        columns["kind"] = kinds_of(file, line, batch, "behavior", KINDS, ", ".join(KINDS))
        yield ActionBatch(file, line, columns)
