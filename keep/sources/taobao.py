"""Taobao's ``UserBehavior.csv``: user, item, category, behaviour, Unix seconds; no header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from keep.sources.actions import (
    CART,
    CLICK,
    CONVERSION,
    ActionOptions,
    Actions,
    Bounds,
    calendar_day,
    check_days,
    refuse_times,
    within,
    write_log,
)
from keep.sources.csv_batches import csv_batches, refuse
from keep.sources.spill import Advance, DaySpill

NAME = "taobao"
HEADER = ("user", "item", "category", "behavior", "timestamp")
LEFT_OUT = -1
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
    file: Path,
    out: Path,
    options: ActionOptions,
    bounds: Bounds,
    advance: Advance,
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
    types = dict.fromkeys(HEADER, pa.int64()) | {"behavior": pa.string()}
    names = pa.array(KINDS)
    codes = np.array(list(KINDS.values()), dtype=np.int8)
    outside = 0
    with DaySpill(out) as spill:
        for line, batch in csv_batches(file, types, advance, HEADER):
            known = pc.index_in(batch.column("behavior"), names)
            refuse(file, line, known.is_null(), f"is none of {', '.join(KINDS)}", "behavior")
            time = batch.column("timestamp").to_numpy()
            day = calendar_day(time)
            inside = within(day, bounds)
            outside += int((~inside).sum())
            refuse_times(file, line, time, inside, "timestamp")
            kind = codes[known.to_numpy()]
            kept = inside & (kind != LEFT_OUT)
            columns = {n: batch.column(n).to_numpy()[kept] for n in ("user", "item", "category")}
            columns |= {"shop": np.zeros_like(columns["user"]), "time": time[kept]}
            spill.add(file, day[kept], {**columns, "kind": kind[kept]})
        check_days(file, spill, bounds, outside)
        write_log(Actions(NAME, SOURCE, CITATION, LICENCE, spill), options, out)
    return outside
