"""The one schema of behaviour logs: a directory with ``log.json`` and one Parquet file per day.

Every source (``keep.sources``) writes it, everything that learns reads it through ``open_log``.
``docs/log-schema.md`` describes it for a team that brings its own data. No torch here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gkc.arrays import I64, Bools
from keep.errors import LogNotFoundError, LogSchemaError

FORMAT = "gkc-log/1"
"""What ``log.json`` says it is."""

INFO_FILE = "log.json"

SCHEMA = pa.schema(
    [
        pa.field("user", pa.int64(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),
        pa.field("shop", pa.int64(), nullable=False),
        pa.field("category", pa.int64(), nullable=False),
        pa.field("day", pa.int32(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("scene", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("click", pa.bool_(), nullable=False),
        pa.field("cart", pa.bool_(), nullable=False),
        pa.field("conversion", pa.bool_(), nullable=False),
    ]
)
"""Columns of a day's file; a row is one impression."""

LAST_SECOND = 4_102_444_800
"""2100-01-01. What comes after it is no time of an impression but, most likely, milliseconds."""
TOO_LATE = "is after the year 2099; times are Unix seconds, not milliseconds"

IDS = {"user": "users", "item": "items", "shop": "shops", "category": "categories"}
"""Columns of ids, and what many of them are called, also in ``LogInfo`` and below ``ids``."""

Columns = dict[str, NDArray[Any]]
"""Columns of impressions by name, (n,) each."""


@dataclass(frozen=True, kw_only=True)
class LogInfo:
    """What a log is: where it comes from and how its days are used.

    The fields from ``days`` on are found by the writer; a source leaves them out.
    """

    name: str
    """Short name, for example ``movielens-1m``; a log is only ever replaced by one of its name."""
    source: str
    """How the log was made, one paragraph that stands beside every figure made from it."""
    sub_domain_scenes: tuple[str, ...]
    """Scenes whose impressions form the downstream sub-domain."""
    pretrain_until: int
    """Last day of pretraining."""
    train_days: tuple[int, ...]
    """Days on which downstream models are trained."""
    test_day: int
    """Day on which they are tested."""
    citation: str = ""
    """Whom to cite."""
    licence: str = ""
    """What the licence of the source allows."""
    seed: int | None = None
    """Seed of whatever chance went into the log."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that made the log, as JSON values."""
    string_ids: tuple[str, ...] = ()
    """Columns whose numbers stand for strings of the source, which are below ``ids``."""
    days: tuple[int, ...] = ()
    """Days that the log has, ascending."""
    rows: int = 0
    """Impressions."""
    users: int = 0
    """Distinct users."""
    items: int = 0
    """Distinct items among the impressions."""
    shops: int = 0
    """Distinct shops."""
    categories: int = 0
    """Distinct categories."""
    clicks: int = 0
    """Clicked impressions."""
    carts: int = 0
    """Impressions whose item was put into the cart."""
    conversions: int = 0
    """Impressions whose item was bought."""
    checksum: str = ""
    """SHA-256 of all columns' values in day and row order, independent of how files are packed."""


@dataclass(frozen=True)
class Day:
    """Impressions of one day as columns, in the order of the log.

    Every field is an array with one entry per impression, so a part of a day is made by indexing
    each. Where times are equal, the order of rows is the order of events.
    """

    user: I64
    """(n,) int64."""
    item: I64
    """(n,) int64."""
    shop: I64
    """(n,) int64."""
    category: I64
    """(n,) int64."""
    time: I64
    """(n,) int64, Unix seconds."""
    sub_domain: Bools
    """(n,) bool, whether the scene belongs to the downstream sub-domain."""
    click: Bools
    """(n,) bool."""
    cart: Bools
    """(n,) bool, only where clicked."""
    conversion: Bools
    """(n,) bool, only where clicked."""

    def __len__(self) -> int:
        """Count the impressions."""
        return len(self.user)

    @property
    def ids(self) -> tuple[I64, I64, I64]:
        """Users, items and categories: what served knowledge is asked for by."""
        return self.user, self.item, self.category


class Log:
    """A log on disk, read day by day; made by ``open_log``."""

    def __init__(self, path: Path, info: LogInfo) -> None:
        self.path = path
        self.info = info

    def table(self, day: int) -> Any:  # noqa: ANN401 - pyarrow publishes no types
        """Read a day as it is stored, scenes included.

        Raises
        ------
        LogSchemaError
            If the log has no such day, or a row breaks the schema; names file, column and row.
        """
        file = day_file(self.path, day)
        if day not in self.info.days:
            raise LogSchemaError(file, f"the log has no day {day}; its days are {self.info.days}")
        try:
            table = pq.read_table(file, columns=SCHEMA.names, partitioning=None)
        except (OSError, pa.ArrowException) as exc:
            raise LogSchemaError(file, f"cannot be read ({_first_line(exc)})") from exc
        check_rows(file, table)
        check_column(file, "day", table.column("day").to_numpy() == day, f"is not {day}")
        return table

    def day(self, day: int) -> Day:
        """Read one day.

        Raises
        ------
        LogSchemaError
            If the log has no such day, or a row breaks the schema; names file, column and row.
        """
        table = self.table(day)
        columns = {
            name: np.array(table.column(name))
            for name in ("user", "item", "shop", "category", "time", "click", "cart", "conversion")
        }
        return Day(sub_domain=_in_scenes(table, self.info.sub_domain_scenes), **columns)

    def named(self, kind: str, ids: I64) -> Any:  # noqa: ANN401 - pyarrow publishes no types
        """Return ids of a kind, such as ``user``, (n,), as the source has them.

        Raises
        ------
        LogSchemaError
            If they were strings, and the log does not have that of one.
        """
        if kind not in self.info.string_ids:
            return ids
        file = self.path / "ids" / f"{IDS[kind]}.parquet"
        try:
            names = pq.read_table(file, columns=[kind, "name"])
        except (OSError, pa.ArrowException) as exc:
            remedy = f"it has the strings of {IDS[kind]}: copy the whole log, or import it anew"
            raise LogSchemaError(file, f"cannot be read ({_first_line(exc)}); {remedy}") from exc
        places = pc.index_in(pa.array(ids), names.column(kind).combine_chunks())
        if places.null_count:
            lost = ids[places.is_null().to_numpy(zero_copy_only=False)]
            reason = f"has no string for {len(lost)} of {len(ids)} ids, such as {lost[0]}; take the"
            raise LogSchemaError(file, f"{reason} log that has all days pretrained on", kind)
        return names.column("name").combine_chunks().take(places)

    def days(self, first: int, last: int) -> Iterator[Day]:
        """Read the days from ``first`` to ``last``, both included, one in memory at a time.

        Days that the log does not have are passed over.

        Raises
        ------
        LogSchemaError
            If a row breaks the schema.
        """
        for day in self.info.days:
            if first <= day <= last:
                yield self.day(day)


def open_log(path: Path | str) -> Log:
    """Open a log after checking that its files are there and have the schema's columns.

    Values are checked when a day is read, so that opening stays cheap.

    Raises
    ------
    LogNotFoundError
        If there is no ``log.json``.
    LogSchemaError
        If ``log.json`` or the columns of a file are not as they must be; names file and column.
    """
    path = Path(path)
    info = read_info(path)
    for day in info.days:
        file = day_file(path, day)
        try:
            schema = pq.read_schema(file)
        except (OSError, pa.ArrowException) as exc:
            raise LogSchemaError(file, f"cannot be read ({_first_line(exc)})") from exc
        for column in SCHEMA:
            index = schema.get_field_index(column.name)
            if index < 0:
                raise LogSchemaError(file, "is missing, or there more than once", column.name)
            if schema.field(index).type != column.type:
                reason = f"has type {schema.field(index).type}, not {column.type}"
                raise LogSchemaError(file, reason, column.name)
    return Log(path, info)


def read_info(path: Path) -> LogInfo:
    """Read the ``log.json`` of a log.

    Raises
    ------
    LogNotFoundError
        If there is none.
    LogSchemaError
        If it is not the description of a log.
    """
    file = path / INFO_FILE
    if file.exists() and not file.is_file():
        raise LogSchemaError(file, "is no file")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise LogNotFoundError(path) from None
    except (OSError, ValueError, RecursionError) as exc:
        raise LogSchemaError(file, f"cannot be read ({_first_line(exc)})") from exc
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise LogSchemaError(file, f'has no "format": "{FORMAT}"')
    content.setdefault("string_ids", [])  # which earlier logs do not say
    known = {f.name: str(f.type) for f in dataclasses.fields(LogInfo)}
    for name in sorted(content.keys() ^ known.keys()):
        raise LogSchemaError(file, f"has no {name!r}" if name in known else f"unknown {name!r}")
    values: dict[str, Any] = {
        name: _typed(file, name, known[name], value) for name, value in content.items()
    }
    info = LogInfo(**values)
    check_days(file, info)
    return info


def day_file(path: Path, day: int) -> Path:
    """Name the file of a day: ``days/day=NNNN.parquet`` below the log."""
    return path / "days" / f"day={day:04d}.parquet"


def check_days(file: Path, info: LogInfo) -> None:
    """Check that the days of a log are in order and hold the days of the downstream task.

    Raises
    ------
    LogSchemaError
        If there is no day, the days do not ascend, a training or test day is not among them, or
        a model would be tested on a day that it, or its knowledge, was trained on.
    """
    if not info.days:
        raise LogSchemaError(file, "the log has no day, not one row")
    if list(info.days) != sorted(set(info.days)) or info.days[0] < 0:
        raise LogSchemaError(file, f"days {info.days} are not ascending from at least 0")
    absent = sorted({*info.train_days, info.test_day} - set(info.days))
    if absent:
        raise LogSchemaError(
            file, f"train_days and test_day name {absent}, but the days are {info.days}"
        )
    uses = [info.pretrain_until, *info.train_days, info.test_day]
    if uses != sorted(set(uses)):
        raise LogSchemaError(file, f"pretraining, training and test days {uses} do not ascend")


def check_rows(file: Path, table: Any, first_row: int = 0) -> None:  # noqa: ANN401
    """Check values of a table, which starts at a row of the file, against the schema.

    Raises
    ------
    LogSchemaError
        At the first column with a null, a negative day or time, a time after 2099, or a cart or
        conversion without a click; names the row.
    """
    for name in SCHEMA.names:
        check_no_null(file, name, table.column(name), first_row)
    for name in ("day", "time"):
        at_least_zero = table.column(name).to_numpy() >= 0
        check_column(file, name, at_least_zero, "is negative", first_row)
    in_time = table.column("time").to_numpy() < LAST_SECOND
    check_column(file, "time", in_time, TOO_LATE, first_row)
    click = table.column("click").to_numpy()
    for name in ("cart", "conversion"):
        implied = click | ~table.column(name).to_numpy()
        reason = "is true although click is false (both imply a click)"
        check_column(file, name, implied, reason, first_row)


def check_no_null(file: Path, name: str, column: Any, first_row: int) -> None:  # noqa: ANN401
    """Check that a column, which starts at a row of the file, has a value in every row.

    Raises
    ------
    LogSchemaError
        At the first null; names the row.
    """
    if column.null_count:
        check_column(file, name, column.is_valid().to_numpy(), "is null", first_row)


def check_column(file: Path, name: str, holds: Bools, reason: str, first_row: int = 0) -> None:
    """Check what holds, (n,), of the rows of a column, which starts at a row of the file.

    Raises
    ------
    LogSchemaError
        With the reason, at the first row of which it does not.
    """
    if not holds.all():
        raise LogSchemaError(file, reason, name, first_row + int(np.argmin(holds)))


def _in_scenes(table: Any, scenes: tuple[str, ...]) -> Bools:  # noqa: ANN401
    parts = [np.empty(0, dtype=np.bool_)]
    for chunk in table.column("scene").chunks:
        inside = np.array([name in scenes for name in chunk.dictionary.to_pylist()], dtype=np.bool_)
        parts.append(inside[chunk.indices.to_numpy()])
    return np.concatenate(parts)


def _typed(file: Path, name: str, kind: str, value: object) -> object:
    """Check a value of ``log.json`` and turn its lists into tuples."""
    ok = {
        "str": isinstance(value, str),
        "int": _is_int(value),
        "int | None": value is None or _is_int(value),
        "tuple[str, ...]": isinstance(value, list) and all(isinstance(v, str) for v in value),
        "tuple[int, ...]": isinstance(value, list) and all(_is_int(v) for v in value),
        "Mapping[str, Any]": isinstance(value, dict),
    }[kind]
    if not ok:
        raise LogSchemaError(file, f"{name!r} must be of type {kind}, not {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _first_line(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):  # of which Arrow says the path alone
        return "there is no such file"
    return (str(error).splitlines() or [type(error).__name__])[0]
