"""One process's part of a join: files read, answered and written, three steps at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gkc.center.plan import DTYPES
from gkc.center.question import Columns
from gkc.knowledge import PARTS
from gkc.offline.folders import FilePair
from gkc.offline.form import KnowledgeForm
from gkc.offline.laying import RowLayer, Statuses
from gkc.offline.parquet import ParquetTable, parquet_writer, replacing
from gkc.offline.questions import RowQuestions
from gkc.offline.snapshot import Snapshot, SnapshotReader
from gkc.offline.spilled import PacedFetch, Progress, SpilledAnswers

_GROUP_BYTES: Final = 32 << 20
"""Of a row group, about: three of them are in memory at a time."""
_MOST_GROUP_ROWS: Final = 1 << 17
_LEAST_GROUP_ROWS: Final = 256

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class JoinTask:
    """What every file of a join has in common; can be sent to other processes.

    Attributes
    ----------
    snapshot : Snapshot
    form : KnowledgeForm
    versions : tuple of str
        Every version that a row names.
    version, version_column : str or None
        One of both.
    reads_per_second : float or None
        Most users that one process reads from the store in a second.
    """

    snapshot: Snapshot
    form: KnowledgeForm
    versions: tuple[str, ...]
    version: str | None
    version_column: str | None
    reads_per_second: float | None = None

    @property
    def steps(self) -> int:
        """How often progress is told of each row."""
        return 1 if self.snapshot.address.is_mapped else 2


@dataclass(frozen=True, slots=True)
class FileJob:
    """A file to join.

    Attributes
    ----------
    files : FilePair
    versions : tuple of str
        Those that its rows name.
    metadata : mapping of str to str
        What the file that is written tells of itself.
    """

    files: FilePair
    versions: tuple[str, ...]
    metadata: Mapping[str, str]


class Answers(Protocol):
    """Answers the rows of one table, in order."""

    width: int
    statuses: Statuses

    def columns(self, columns: Columns) -> tuple[pa.ChunkedArray, ...]:
        """Return the columns that are added to the next rows."""
        ...


def check_answerable(task: JoinTask) -> None:
    """Check that rows of a join's versions can be answered in its form.

    Raises
    ------
    StoreError
        If a generation cannot be read.
    CommandError
        If widths differ, or numbers may overflow.
    """
    with SnapshotReader(task.snapshot) as reader:
        RowLayer(reader.load(task.versions), reader.fetch, task.form)


class Joiner:
    """Joins files, one after the other.

    Parameters
    ----------
    task : JoinTask
    """

    def __init__(self, task: JoinTask) -> None:
        self._task = task
        self._reader = SnapshotReader(task.snapshot)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the store."""
        self._reader.close()

    def join(self, job: FileJob, progress: Progress) -> Statuses:
        """Write one file.

        Raises
        ------
        TableFileError
            If a row cannot be asked, or a file not be read or written.
        StoreError
            If the store fails, or no longer keeps a generation.
        """
        task, table = self._task, ParquetTable(job.files.source)
        questions = RowQuestions(str(table.path), table.schema, task.version, task.version_column)
        with (
            replacing(job.files.temporary, job.files.target) as path,
            self._answers(table, questions, path.parent, progress) as answers,
        ):
            schema = task.form.joined(table.schema, answers.width, job.metadata)
            groups = _joined(table, questions, answers, task.form, schema)
            with parquet_writer(path, schema, task.form.names) as writer:
                for rows in _written_behind(writer, groups):
                    progress(rows)
            self._reader.require_kept(job.versions)
        return answers.statuses

    @contextmanager
    def _answers(
        self, table: ParquetTable, questions: RowQuestions, folder: Path, progress: Progress
    ) -> Iterator[Answers]:
        form, fetch = self._task.form, self._reader.fetch
        generations = self._reader.load(self._task.versions)
        if self._task.snapshot.address.is_mapped:
            yield RowLayer(generations, fetch, form)
            return
        if self._task.reads_per_second is not None:
            fetch = PacedFetch(fetch, self._task.reads_per_second)
        with SpilledAnswers(folder, table.rows, generations, fetch, form) as spilled:
            for first, batch in table.batches(_MOST_GROUP_ROWS, questions.columns):
                spilled.ask(questions.read(batch, first))
            spilled.answer(progress)
            yield spilled


def _joined(
    table: ParquetTable,
    questions: RowQuestions,
    answers: Answers,
    form: KnowledgeForm,
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """Yield a table's rows and what is added to them, a row group at a time."""
    row_bytes = answers.width * np.dtype(DTYPES[form.dtype]).itemsize + len(PARTS)
    at_once = _GROUP_BYTES / (table.row_bytes + row_bytes)
    at_once = int(max(_LEAST_GROUP_ROWS, min(_MOST_GROUP_ROWS, at_once)))
    for first, batch in _read_ahead(table.batches(at_once)):
        added = answers.columns(questions.read(batch, first))
        yield pa.Table.from_arrays([*batch.columns, *added], schema=schema)


def _read_ahead(items: Iterator[ItemT]) -> Iterator[ItemT]:
    """Yield what an iterator yields; a thread has the next one meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(next, items, None)
        while (item := ahead.result()) is not None:
            ahead = thread.submit(next, items, None)
            yield item


def _written_behind(writer: pq.ParquetWriter, groups: Iterator[pa.Table]) -> Iterator[int]:
    """Write row groups in a thread, each while the next one is made; yield the rows of each."""
    with ThreadPoolExecutor(1) as thread:
        written = None
        for group in groups:
            if written is not None:
                yield written.result()
            written = thread.submit(_write, writer, group)
        if written is not None:
            yield written.result()


def _write(writer: pq.ParquetWriter, group: pa.Table) -> int:
    writer.write_table(group)
    return int(group.num_rows)
