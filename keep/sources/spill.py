"""Sorting a stream of rows into days: one Parquet file per day, whatever the order they came in."""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gkc.arrays import I64
from keep.errors import LogSchemaError

MAX_DAYS = 800
"""Distinct days of one import: each has a file open while the source is read."""

GAP_DAYS = 30
"""Days without a row, after which a few rows are taken for wrong timestamps."""
STRAY_SHARE = 0.01
"""Of all rows, or of the rows of an ordinary day: below it, days at an end are strays."""

Advance = Callable[[int], object]
"""Told how many bytes of the source were read since the last call."""


class DaySpill:
    """Rows of a source, appended batch by batch and read back day by day.

    A context manager: what it wrote, beside the log to be on the same file system, is removed at
    the end.
    """

    def __init__(self, beside: Path) -> None:
        self.beside = beside
        self._writers: dict[int, Any] = {}
        self._rows: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Make the folder."""
        parent = self.beside.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f".{self.beside.name}.", dir=parent))
        return self

    def __exit__(self, *raised: object) -> None:
        """Remove what was written."""
        self._close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, source: Path, day: I64, table: Any) -> None:  # noqa: ANN401
        """Append a batch, with the same schema in every call, and the day of each row, (n,).

        Raises
        ------
        LogSchemaError
            If there are more days than one import may have.
        """
        if len(day) == 0:
            return
        order = np.argsort(day, kind="stable")
        days, starts = np.unique(day[order], return_index=True)
        ends = np.r_[starts[1:], len(day)]
        for number, start, end in zip(days.tolist(), starts.tolist(), ends.tolist(), strict=True):
            if number not in self._writers:
                if len(self._writers) == MAX_DAYS:
                    raise LogSchemaError(source, f"has rows of more than {MAX_DAYS} days", "day")
                file = self._file(number)
                self._writers[number] = pq.ParquetWriter(file, table.schema, compression="zstd")
            self._writers[number].write_table(table.take(pa.array(order[start:end])))
            self._rows[number] = self._rows.get(number, 0) + end - start

    def rows(self) -> dict[int, int]:
        """Return how many rows each day has."""
        return dict(self._rows)

    def days(self) -> tuple[int, ...]:
        """Return the days that have rows, ascending; nothing is appended afterwards."""
        self._close()
        return tuple(sorted(self._writers))

    def table(self, day: int) -> Any:  # noqa: ANN401 - pyarrow publishes no types
        """Read a day back, in the order in which its rows came."""
        return pq.read_table(self._file(day), partitioning=None)

    def columns(self, day: int) -> dict[str, NDArray[Any]]:
        """Read a day of numeric columns, (n,), back, in the order in which the rows came."""
        table = self.table(day)
        return {name: np.array(table.column(name)) for name in table.column_names}

    def _file(self, day: int) -> Path:
        return self._folder / f"{day}.parquet"

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def stray_days(rows: Mapping[int, int], *, last: bool) -> list[int]:
    """Find the days at one end of a log that hardly a row is of: of wrong timestamps, most likely.

    One row of the year 2037 would otherwise be the whole test day. Strays, the outermost first,
    have less than a hundredth of the rows that a day has in the median, or lie beyond a gap of over
    30 days; all together they have less than a hundredth of all rows.
    """
    days = sorted(rows, reverse=last)
    few = STRAY_SHARE * statistics.median(rows.values())
    strays = seen = 0
    for place, (day, following) in enumerate(itertools.pairwise(days)):
        seen += rows[day]
        if seen >= STRAY_SHARE * sum(rows.values()):
            break
        is_thin = rows[day] < few and strays == place
        if is_thin or abs(following - day) > GAP_DAYS:
            strays = place + 1
    return days[:strays]


def split_days(days: tuple[int, ...]) -> tuple[int, tuple[int, ...], int]:
    """Choose what days are for: the last one tests, up to two before it train, the rest pretrains.

    Returns the last day of pretraining, the training days and the test day; there are fewer than
    two training days where pretraining would be left without a day.
    """
    *before, test = days
    trained = min(2, max(len(before) - 1, 0))
    train = tuple(before[len(before) - trained :])
    pretrain = before[: len(before) - trained]
    return (pretrain[-1] if pretrain else test - 1), train, test
