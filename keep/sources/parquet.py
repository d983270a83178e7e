"""A team's own Parquet files as a log: columns of the schema, checked row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gkc.columns import renaming
from keep.errors import LogSchemaError
from keep.log import IDS, SCHEMA, LogInfo, check_column, check_no_null, check_rows
from keep.log_writer import LogWriter
from keep.sources.names import Names
from keep.sources.spill import Advance, DaySpill, split_days, stray_days

ROWS_AT_ONCE = 500_000
STRINGS = (pa.string(), pa.large_string(), pa.string_view())
NAME = "own"
EMPTY = {"shop": "0", "scene": "'all'", "cart": "false", "conversion": "false"}
"""What stands in a column for which a source has nothing."""


@dataclass(frozen=True)
class ParquetOptions:
    """What the files do not say themselves."""

    name: str = NAME
    """Name of the log."""
    source: str = "Own Parquet files, imported as they are."
    """How they were made, printed beside every figure."""
    sub_domain_scenes: tuple[str, ...] = ()
    """Scenes of the sub-domain; by default all scenes there are."""
    test_day: int | None = None
    """Test day, by default the last one; later days are left out of every split."""


def import_parquet(
    files: Sequence[Path], out: Path, options: ParquetOptions, advance: Advance
) -> None:
    """Write a log from Parquet files with the columns of the schema; others are left out.

    Integers of any type become ids, strings become numbers that stand for them, whole 0 and 1
    become labels, timestamps become seconds. Days may come in any order; rows of a day keep the
    order of files and rows.

    Raises
    ------
    LogSchemaError
        If a column is missing, of a wrong type, has a null or a wrong value, or if the options
        name a day or scene that is not there; names file, column and row.
    LogPathTakenError
        If ``out`` holds something else.
    """
    scenes: set[str] = set()
    names = Names()
    with DaySpill(out) as spill:
        for file in files:
            row = 0
            for batch in _batches(file):
                table = conform(file, batch, names, row)
                scenes.update(table.column("scene").unique().to_pylist())
                spill.add(file, table.column("day").to_numpy().astype(np.int64), table)
                row += table.num_rows
                advance(table.num_rows)
        _check_test_day(files[0], options, spill)
        info = _info(files, options, spill.days(), scenes, names.kinds)
        with LogWriter(out, info) as writer:
            for day in info.days:
                writer.write_table(day, spill.table(day).cast(SCHEMA))
            names.write(writer)


def conform(file: Path, table: Any, names: Names, first_row: int) -> Any:  # noqa: ANN401
    """Bring a table, which starts at a row of the file, to the schema.

    The ids that are strings join the names.

    Raises
    ------
    LogSchemaError
        If a column cannot be read as what the schema says; names column and row.
    """
    columns = []
    for field in SCHEMA:
        column = table.column(field.name)
        check_no_null(file, field.name, column, first_row)
        columns.append(_converted(file, field, column, names, first_row))
    conformed = pa.table(columns, schema=SCHEMA)
    check_rows(file, conformed, first_row)
    return conformed


def _require_columns(file: Path, names: list[str]) -> None:
    """Check that each column of the schema is there, once."""
    missing = [name for name in SCHEMA.names if name not in names]
    if missing:
        reasons = [f"has no column {', '.join(map(repr, missing))}"]
        reasons += [hint for name in missing if (hint := renaming(name, names))]
        blanks = [f"{name} = {EMPTY[name]}" for name in missing if name in EMPTY]
        reasons += [f"if you have nothing for them, write {', '.join(blanks)}"] if blanks else []
        raise LogSchemaError(file, "; ".join(reasons))
    for name in SCHEMA.names:
        if names.count(name) > 1:
            raise LogSchemaError(file, "is there twice", name)


def _converted(file: Path, field: Any, column: Any, names: Names, first_row: int) -> Any:  # noqa: ANN401
    """Convert a column without losing anything, or say which row cannot be."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if field.name == "scene":
        if kind in STRINGS:
            return column.cast(pa.string()).dictionary_encode().cast(field.type)
    elif field.name == "time" and pa.types.is_timestamp(kind):
        return pc.floor_temporal(column, unit="second").cast(pa.timestamp("s")).cast(pa.int64())
    elif pa.types.is_boolean(field.type):
        return _labels(file, field.name, column, first_row)
    elif field.name in IDS and kind in STRINGS:
        names.check_type(file, field.name, are_strings=True)
        return names.numbered(file, field.name, column, first_row)
    elif pa.types.is_integer(kind):
        if field.name in IDS:
            names.check_type(file, field.name, are_strings=False)
        values, limits = column.to_numpy(), np.iinfo(field.type.to_pandas_dtype())
        fits = (values >= limits.min) & (values <= limits.max)
        remedy = "; view the column as int64, or make strings of it" if field.name in IDS else ""
        check_column(file, field.name, fits, f"does not fit {field.type}{remedy}", first_row)
        return column.cast(field.type)
    wanted = f"{field.type} or string" if field.name in IDS else field.type
    raise LogSchemaError(file, f"has type {kind}, not {wanted}", field.name)


def _labels(file: Path, name: str, column: Any, first_row: int) -> Any:  # noqa: ANN401
    if pa.types.is_boolean(column.type):
        return column
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise LogSchemaError(file, f"has type {column.type}, not bool", name)
    values = column.to_numpy()
    check_column(file, name, (values == 0) | (values == 1), "is neither 0 nor 1", first_row)
    return pa.chunked_array([pa.array(values == 1)])


def _batches(file: Path) -> Any:  # noqa: ANN401 - an iterator of pyarrow tables
    try:
        with pq.ParquetFile(file) as source:
            _require_columns(file, source.schema_arrow.names)
            for batch in source.iter_batches(ROWS_AT_ONCE, columns=SCHEMA.names):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as exc:
        reason = (str(exc).splitlines() or [""])[0]
        raise LogSchemaError(file, f"cannot be read as Parquet ({reason})") from exc


def _check_test_day(file: Path, options: ParquetOptions, spill: DaySpill) -> None:
    """Refuse that a few rows of a wrong day become the test day, unless that day was named."""
    rows = spill.rows()
    strays = stray_days(rows, last=True) if rows and options.test_day is None else []
    if strays:
        few, last = sum(rows[day] for day in strays), max(rows.keys() - set(strays))
        raise LogSchemaError(
            file,
            f"only {few:,} of {sum(rows.values()):,} rows are of days after {last}, up to "
            f"{strays[0]}; name the test day: --test-day {last}, or --test-day {strays[0]}",
            "day",
        )


def _info(
    files: Sequence[Path],
    options: ParquetOptions,
    days: tuple[int, ...],
    scenes: set[str],
    string_ids: tuple[str, ...],
) -> LogInfo:
    first = files[0]
    if not days:
        raise LogSchemaError(first, "there is not one row")
    test_day = days[-1] if options.test_day is None else options.test_day
    if test_day not in days:
        raise LogSchemaError(first, f"no row is of the test day {test_day}", "day")
    absent = sorted(set(options.sub_domain_scenes) - scenes)
    if absent:
        raise LogSchemaError(first, f"no row has the scene {absent[0]!r}", "scene")
    pretrain_until, train_days, _ = split_days(tuple(day for day in days if day <= test_day))
    return LogInfo(
        name=options.name,
        source=options.source,
        sub_domain_scenes=options.sub_domain_scenes or tuple(sorted(scenes)),
        pretrain_until=pretrain_until,
        train_days=train_days,
        test_day=test_day,
        params={"files": [file.name for file in files]},
        string_ids=string_ids,
        days=days,
    )
