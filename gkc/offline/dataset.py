"""Rows of Parquet files with their knowledge, as a dataset of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import IterableDataset, get_worker_info

from gkc.arrays import Array
from gkc.center.question import AnswerType, RowsAnswer
from gkc.columns import instead
from gkc.errors import CommandError, TableFileError
from gkc.knowledge import PARTS, Part
from gkc.lock import Lock
from gkc.offline.batches import Joined, NumberedBatch
from gkc.offline.folders import visible_files
from gkc.offline.parquet import ParquetTable
from gkc.offline.snapshot import StoreAddress


class JoinedRows(IterableDataset[dict[str, Any]]):
    """Batches of rows, each column a tensor; ``DataLoader(dataset, batch_size=None)`` reads them.

    What the store served when the dataset was made answers for all of it, in every worker and
    every epoch. Workers share the row groups of the files out among themselves. Without workers,
    rows come in the order of the files.

    Parameters
    ----------
    source : Path or str
        A Parquet file or a folder of them, with ``user_id``, ``item_id`` and, if you like,
        ``category_id``.
    columns : sequence of str, optional
        Those to yield beside ``knowledge`` and ``status``; by default all.
    batch_rows : int
        Rows of a batch, at most.
    store, version, version_column, dtype, parts, prefix, namespace, mirror_dir
        As `join_batches` takes them.

    Attributes
    ----------
    versions : mapping of str to str
        The generation that answers for each version: for ``version``, or, with
        ``version_column``, for all that the store had.

    Yields
    ------
    dict of str to Tensor or list
        By column: numbers without null as a tensor, others as a list; ``knowledge`` (n, width) and
        ``status`` (n, 4).

    Raises
    ------
    TableFileError, CommandError, StoreError
        As `join_batches`.
    """

    def __init__(
        self,
        source: Path | str,
        *,
        store: str,
        version: str | None = None,
        version_column: str | None = None,
        columns: Sequence[str] | None = None,
        batch_rows: int = 4096,
        dtype: AnswerType = "f32",
        parts: Sequence[Part] = PARTS,
        prefix: str = "",
        namespace: str = "default",
        mirror_dir: Path | None = None,
    ) -> None:
        if isinstance(columns, str):
            raise CommandError(f"columns are named in a list, such as [{columns!r}]")
        if not isinstance(batch_rows, int) or batch_rows < 1:
            raise CommandError(f"batch_rows is a whole number of at least 1, not {batch_rows!r}")
        self._joined = Joined.of(
            StoreAddress(store, namespace, mirror_dir),
            version,
            version_column,
            dtype,
            parts,
            prefix,
        )
        self.versions: Mapping[str, str] = self._joined.sources.generations
        self._batch_rows = batch_rows
        self._columns = columns
        self._groups: list[tuple[ParquetTable, int]] = []
        for path in sorted(visible_files(Path(source))):
            table = ParquetTable(path)
            self._joined.questions(str(path), table.schema, table.null_columns)
            for name in columns or ():
                if name not in table.schema.names:
                    problem = f"there is no column {name!r}; {instead(name, table.schema)}"
                    raise TableFileError(str(path), problem)
            self._groups += [(table, group) for group in range(len(table.group_rows))]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of this worker's row groups."""
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for batch, answers in self._joined.answer(self._batches(self._groups[first::step])):
            yield self._tensors(batch, answers)

    def lock(self, versions: Sequence[str] | None = None, *, exact: bool = False) -> Lock:
        """Return what ties a model to the knowledge that it learns from here.

        Parameters
        ----------
        versions : sequence of str, optional
            Only these, by default all of ``versions``.
        exact : bool
            Tie to the very generation, not to its vector space.

        Raises
        ------
        VersionNotFoundError
            If there is no such version.
        CommandError
            If a vector space is not known.
        """
        if isinstance(versions, str):
            raise CommandError(f"versions are named in a list, such as [{versions!r}]")
        asked = list(self.versions) if versions is None else versions
        return self._joined.sources.lock(asked, exact=exact)

    def _batches(self, groups: Sequence[tuple[ParquetTable, int]]) -> Iterator[NumberedBatch]:
        for table, group in groups:
            name = str(table.path)
            columns = self._columns
            if columns is not None:
                asked = self._joined.questions(name, table.schema, table.null_columns).columns
                columns = list(dict.fromkeys([*asked, *columns]))
            for first, batch in table.batches(self._batch_rows, columns, group):
                yield name, first, batch

    def _tensors(self, batch: pa.RecordBatch, answers: Sequence[RowsAnswer]) -> dict[str, Any]:
        names = batch.schema.names if self._columns is None else self._columns
        rows = {name: _tensor(batch.column(name)) for name in names}
        knowledge, status = self._joined.form.names
        rows[knowledge] = _side_by_side([answer.knowledge for answer in answers])
        rows[status] = _side_by_side([answer.status for answer in answers])
        return rows


def _tensor(column: pa.Array) -> torch.Tensor | list[Any]:
    """Return a column as a tensor if it holds numbers, none of them null; else as a list."""
    held = column.type
    is_number = pa.types.is_integer(held) or pa.types.is_floating(held) or pa.types.is_boolean(held)
    if not is_number or column.null_count:
        values: list[Any] = column.to_pylist()
        return values
    return torch.from_numpy(column.to_numpy(zero_copy_only=False).copy())


def _side_by_side(pieces: Sequence[Array]) -> torch.Tensor:
    """Return arrays, one below the other, as a tensor; a single one shares its memory."""
    return torch.from_numpy(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
