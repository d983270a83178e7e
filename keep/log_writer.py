"""Writing logs: all of a log appears at its path at once, or nothing does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gkc.arrays import I64
from keep.errors import LogNotFoundError, LogPathTakenError
from keep.log import (
    FORMAT,
    IDS,
    INFO_FILE,
    SCHEMA,
    LogInfo,
    check_days,
    check_rows,
    day_file,
    read_info,
)

SUMMED = {"click": "clicks", "cart": "carts", "conversion": "conversions"}
"""Columns that are summed, and where it has the sum."""


class LogWriter:
    """Write a log into a temporary directory, then put it in place in one step.

    A context manager: leaving it without an exception publishes the log, leaving it with one
    removes what was written. A log of the same name at ``path`` is replaced, by two renames.

    Raises
    ------
    LogPathTakenError
        If something else is at ``path``.
    """

    def __init__(self, path: Path, info: LogInfo) -> None:
        self.path = path
        self.info = info
        check_replaceable(path, info.name)
        self.temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        self._day = -1
        self._days: list[int] = []
        self._file: Any = None
        self._distinct: dict[str, I64] = {name: np.empty(0, dtype=np.int64) for name in IDS}
        self._sums = dict.fromkeys(("rows", *SUMMED.values()), 0)
        self._digests = {name: hashlib.sha256() for name in SCHEMA.names}

    def __enter__(self) -> Self:
        """Make the temporary directory."""
        (self.temporary / "days").mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        """Publish the log, or remove what was written."""
        try:
            self._close_day()
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def write(self, day: int, columns: Mapping[str, NDArray[Any]], scenes: tuple[str, ...]) -> None:
        """Append impressions of a day.

        Parameters
        ----------
        day : int
            Not below the day of an earlier call; the day before it is complete then.
        columns : mapping of str to ndarray, shape (n,)
            ``user``, ``item``, ``shop``, ``category``, ``time`` int64; ``scene`` integer
            positions in ``scenes``; ``click``, ``cart``, ``conversion`` bool.

        Raises
        ------
        LogSchemaError
            If a row breaks the schema.
        """
        codes = pa.array(np.asarray(columns["scene"], dtype=np.int32))
        scene = pa.DictionaryArray.from_arrays(codes, pa.array(scenes, pa.string()))
        days = np.full(len(codes), day, dtype=np.int32)
        self.write_table(day, pa.table({**columns, "scene": scene, "day": days}, schema=SCHEMA))

    def write_table(self, day: int, table: Any) -> None:  # noqa: ANN401
        """Append impressions of a day, as a table with ``SCHEMA``.

        Raises
        ------
        LogSchemaError
            If a row breaks the schema.
        ValueError
            If the day was completed before.
        """
        check_rows(day_file(self.path, day), table)
        if day != self._day:
            if day <= self._day:
                raise ValueError(f"day {day} comes after day {self._day}, which is ahead of it")
            self._close_day()
            file = day_file(self.temporary, day)
            self._file = pq.ParquetWriter(file, SCHEMA, compression="zstd")
            self._day = day
            self._days.append(day)
        self._file.write_table(table)
        self._count(table)

    def write_beside(self, name: str, table: Any) -> None:  # noqa: ANN401
        """Put another table, such as ``ids/users.parquet``, into the log's directory."""
        file = self.temporary / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file, compression="zstd")

    def _count(self, table: Any) -> None:  # noqa: ANN401
        self._sums["rows"] += table.num_rows
        for name, seen in self._distinct.items():
            self._distinct[name] = np.union1d(seen, table.column(name).to_numpy())
        for name, total in SUMMED.items():
            self._sums[total] += int(table.column(name).to_numpy().sum())
        for name, digest in self._digests.items():
            digest.update(_stable_values(table, name).data)

    def _close_day(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _checksum(self) -> str:
        """Combine the columns' digests, so that it does not matter how rows came in batches."""
        each = "".join(f"{name}:{digest.hexdigest()}\n" for name, digest in self._digests.items())
        return hashlib.sha256(each.encode()).hexdigest()

    def _publish(self) -> None:
        counts: dict[str, Any] = {n: len(self._distinct[name]) for name, n in IDS.items()}
        info = dataclasses.replace(
            self.info,
            days=tuple(self._days),
            checksum=self._checksum(),
            **counts | self._sums,
        )
        file = self.temporary / INFO_FILE
        check_days(self.path / INFO_FILE, info)
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(info)}, indent=2)
        file.write_text(text + "\n", encoding="utf-8")
        check_replaceable(self.path, info.name)
        if self.path.exists():
            old = self.temporary.with_suffix(".old")
            self.path.rename(old)
            self.temporary.rename(self.path)
            shutil.rmtree(old)
        else:
            self.temporary.rename(self.path)


def check_replaceable(path: Path, name: str) -> None:
    """Check that a log may be put at a path, before any work is done for it.

    Raises
    ------
    LogPathTakenError
        Unless the path is absent, an empty directory, or a log of the same name.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise LogPathTakenError(path, "a file", name)
    if not any(path.iterdir()):
        return
    try:
        there = read_info(path).name
    except LogNotFoundError:
        raise LogPathTakenError(path, "a directory with other files", name) from None
    if there != name:
        raise LogPathTakenError(path, f"a log named {there!r}", name)


def _stable_values(table: Any, name: str) -> NDArray[Any]:  # noqa: ANN401
    """Return a column as numbers that depend on its values only, not on its encoding."""
    column = table.column(name)
    if name != "scene":
        return np.ascontiguousarray(column)
    parts = [np.empty(0, dtype=np.int64)]
    for chunk in column.chunks:
        hashes = [
            hashlib.sha256(text.encode()).digest()[:8] for text in chunk.dictionary.to_pylist()
        ]
        parts.append(np.frombuffer(b"".join(hashes), dtype="<i8")[np.asarray(chunk.indices)])
    return np.concatenate(parts)
