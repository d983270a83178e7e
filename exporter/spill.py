"""Rows in a temporary file, partitioned by the hashes of their ids, and read one partition at once.

The file has no name (it is unlinked as it is made), so a killed export leaves none. Decision 0006
has what pyarrow.dataset would take instead.
"""

from __future__ import annotations

import io
import os
import tempfile
from typing import Final, Self

import numpy as np
import pyarrow as pa

from exporter.errors import SpillError
from gkc.arrays import I64
from gkc.store import hash_ids

KEY: Final = "@key"
"""Column with the id that partitions and orders the rows; of strings, with their keys."""
_CHUNK_BYTES: Final = 8 << 20
_PIECE_BYTES: Final = 16 << 10


def partition_of(ids: I64, partitions: int) -> I64:
    """Return which of so many equal ranges of hashes each id falls into, shape (n,), int64."""
    high = hash_ids(ids) >> np.uint64(32)
    return ((high * np.uint64(partitions)) >> np.uint64(32)).astype(np.int64)


class Spill:
    """Record batches of one schema, partitioned by the hash of their ``KEY`` column.

    Parameters
    ----------
    schema : pyarrow.Schema
        Has the int64 column ``KEY``.
    partitions : int
    """

    def __init__(self, schema: pa.Schema, partitions: int) -> None:
        self.schema = schema
        self.partitions = partitions
        self.rows = np.zeros(partitions, dtype=np.int64)
        self._file = _new_file()
        self._chunks: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]
        self._end = 0
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        # Many partitions wait for more, lest each piece be smaller than its header.
        self._enough_bytes = max(_CHUNK_BYTES, partitions * _PIECE_BYTES)

    def __enter__(self) -> Self:
        """Return the spill, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the temporary file back."""
        self._file.close()

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows; they reach the file when enough of them have come together."""
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= self._enough_bytes:
            self.flush()

    def flush(self) -> None:
        """Write all rows that wait to their partitions."""
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting, self.schema)
        self._waiting, self._waiting_bytes = [], 0
        place = partition_of(table.column(KEY).to_numpy(), self.partitions)
        order = np.argsort(place, kind="stable")
        sizes = np.bincount(place, minlength=self.partitions)
        sorted_rows = table.take(order).combine_chunks()
        start = 0
        for partition, size in enumerate(sizes.tolist()):
            if size:
                self._write(partition, sorted_rows.slice(start, size))
            start += size
        self.rows += sizes

    def _write(self, partition: int, rows: pa.Table) -> None:
        for batch in rows.to_batches():
            message = batch.serialize()
            self._write_all(memoryview(message))
            self._chunks[partition].append((self._end, message.size))
            self._end += message.size

    def _write_all(self, rest: memoryview) -> None:
        """Write bytes at the end; one call may take fewer than it is given."""
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as exc:
            raise SpillError(tempfile.gettempdir(), exc) from exc

    def read(self, partition: int) -> pa.Table:
        """Return the rows of one partition in the order of the table, each column in one chunk."""
        batches = [
            pa.ipc.read_record_batch(
                pa.py_buffer(os.pread(self._file.fileno(), size, offset)), self.schema
            )
            for offset, size in self._chunks[partition]
        ]
        return pa.Table.from_batches(batches, self.schema).combine_chunks()


def _new_file() -> io.FileIO:
    try:
        # Unbuffered: pieces are large, and are read by their offset from another thread.
        return tempfile.TemporaryFile(prefix="gkc-export-", buffering=0)
    except OSError as exc:
        raise SpillError(tempfile.gettempdir(), exc) from exc
