"""Reading CSV files of any size in batches, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from keep.errors import SourceFormatError
from keep.sources.spill import Advance

BLOCK_BYTES = 16 << 20


def csv_batches(
    path: Path,
    types: Mapping[str, Any],
    advance: Advance,
    header: Sequence[str] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Read chosen columns of a CSV file, with the names of all its columns if it has no header.

    Yields
    ------
    line : int
        Line of the file, from 1, that the batch starts at.
    batch : pyarrow.RecordBatch
        The chosen columns without a null, about 16 MB of the file at a time.

    Raises
    ------
    SourceFormatError
        If a line does not fit.
    """
    read = csv.ReadOptions(
        block_size=BLOCK_BYTES, use_threads=False, column_names=header, encoding="utf8"
    )
    convert = csv.ConvertOptions(column_types=dict(types), include_columns=list(types))
    try:
        with path.open("rb") as raw:
            reported, line = 0, 1 if header else 2
            for batch in csv.open_csv(raw, read_options=read, convert_options=convert):
                position = raw.tell()
                advance(position - reported)
                reported = position
                for name in types:
                    refuse(path, line, batch.column(name).is_null(), "is empty", name)
                yield line, batch
                line += batch.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as exc:
        reason = " ".join(str(exc).split())
        raise SourceFormatError(path, f"is not in the format: {reason}") from exc


def refuse(path: Path, line: int, faults: Any, reason: str, column: str) -> None:  # noqa: ANN401
    """Refuse a batch, which starts at a line of the file, if any of its (n,) rows is at fault.

    Raises
    ------
    SourceFormatError
        Names the line of the first faulty row.
    """
    is_faulty = np.asarray(faults)
    if is_faulty.any():
        raise SourceFormatError(path, reason, line + int(is_faulty.argmax()), column)


def kinds_of(
    path: Path,
    line: int,
    batch: Any,  # noqa: ANN401
    column: str,
    kinds: Mapping[Any, int],
    listed: str,
) -> NDArray[np.int8]:
    """Turn a column of a batch, which starts at a line of the file, into kinds: (n,) int8.

    Raises
    ------
    SourceFormatError
        If a value is not one of those that are known; lists them.
    """
    known = pc.index_in(batch.column(column), pa.array(list(kinds)))
    refuse(path, line, known.is_null(), f"is none of {listed}", column)
    codes = np.array(list(kinds.values()), dtype=np.int8)
    chosen: NDArray[np.int8] = codes[known.to_numpy()]
    return chosen


def read_header(path: Path) -> list[str]:
    """Read the names in the first line of a CSV file, without quotes, blanks and byte order mark.

    Raises
    ------
    SourceFormatError
        If the first line is not text.
    """
    with path.open("rb") as raw:
        line = raw.readline(1 << 16)
    try:
        names = line.decode("utf-8-sig").rstrip("\r\n").split(",")
    except UnicodeDecodeError as exc:
        raise SourceFormatError(path, "the first line is not UTF-8 text", 1) from exc
    return [name.strip().strip('"') for name in names]
