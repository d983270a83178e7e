"""Numbers for ids that are strings: logs and models know numbers alone.

A string's number depends on nothing but the string, so that a log which is imported again, with
other days, goes with the checkpoints of before.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gkc.arrays import I64
from gkc.strings import MAX_STRING_BYTES, StringIds
from keep.errors import LogSchemaError
from keep.log import IDS
from keep.log_writer import LogWriter

NUMBER_BYTES = 8


class Names:
    """The strings among a log's ids, each kind by itself, with their numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[bytes, int]] = {}
        self._first: dict[str, tuple[Path, bool]] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The columns that held strings."""
        return tuple(kind for kind, (_, are_strings) in self._first.items() if are_strings)

    def check_type(self, file: Path, kind: str, *, are_strings: bool) -> None:
        """Check that a kind's ids are of one type in all files.

        Raises
        ------
        LogSchemaError
            If those of an earlier file were of the other.
        """
        first, were_strings = self._first.setdefault(kind, (file, are_strings))
        if were_strings != are_strings:
            held, before = ("strings", "integers") if are_strings else ("integers", "strings")
            reason = f"holds {held}, but {before} in {first}; make all ids of a kind strings"
            raise LogSchemaError(file, reason, kind)

    def numbered(self, file: Path, kind: str, column: Any, first_row: int) -> Any:  # noqa: ANN401
        """Return the numbers, (n,) int64, of a column of strings that starts at a row of the file.

        Raises
        ------
        LogSchemaError
            If a string is not 1 to 128 bytes of UTF-8; names the row.
        """
        coded = column.cast(pa.large_binary()).combine_chunks().dictionary_encode()
        places, names = coded.indices.to_numpy(), coded.dictionary.to_pylist()
        unfit = StringIds.of(names).first_unfit()
        if unfit is not None:
            size = len(names[unfit])
            wrong = f"of {size} bytes" if not 1 <= size <= MAX_STRING_BYTES else "not UTF-8"
            reason = f"is a string {wrong}; an id has 1 to {MAX_STRING_BYTES} bytes of UTF-8"
            raise LogSchemaError(file, reason, kind, first_row + int((places == unfit).argmax()))
        known = self._numbers.setdefault(kind, {})
        for name in names:
            if name not in known:
                known[name] = _number(name)
        numbers: I64 = np.fromiter(map(known.__getitem__, names), np.int64, len(names))
        return pa.chunked_array([numbers[places]])

    def write(self, writer: LogWriter) -> None:
        """Put the strings beside a log that is written.

        Raises
        ------
        LogSchemaError
            If two of a kind have one number, which is to happen in one of millions of logs.
        """
        for kind in self.kinds:
            names = sorted(self._numbers[kind].items(), key=lambda entry: entry[1])
            for (name, number), (other, same) in pairwise(names):
                if number == same:
                    reason = f"{name.decode()!r} and {other.decode()!r} would get one number"
                    raise LogSchemaError(writer.path, f"{reason}; rename one of them", kind)
            numbers = pa.array([number for _, number in names], pa.int64())
            texts = pa.array([name.decode() for name, _ in names], pa.string())
            table = pa.table({kind: numbers, "name": texts})
            writer.write_beside(f"ids/{IDS[kind]}.parquet", table)


def _number(name: bytes) -> int:
    digest = hashlib.blake2b(name, digest_size=NUMBER_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)
