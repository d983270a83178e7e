"""One process's part of a join: files read, answered and written, three steps at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from gkc.arrays import I64
from gkc.center.question import Columns
from gkc.knowledge import PARTS
from gkc.offline.folders import FilePair
from gkc.offline.form import KnowledgeForm, Spans, width_of
from gkc.offline.laying import RowLayer
from gkc.offline.parquet import ParquetTable, parquet_writer, replacing
from gkc.offline.questions import RowQuestions
from gkc.offline.snapshot import Snapshot, SnapshotReader, StoreAddress
from gkc.offline.sources import Sources
from gkc.offline.spilled import PacedFetch, Progress, SpilledAnswers

JOIN_KEY: Final = "gkc.join"
"""Of a file's metadata: what was asked of which input, JSON."""
_GROUP_BYTES: Final = 32 << 20
"""Of a row group, about: three of them are in memory at a time."""
_MOST_GROUP_ROWS: Final = 1 << 17
_LEAST_GROUP_ROWS: Final = 256

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """What to join, and how.

    Attributes
    ----------
    source, target : Path
        A Parquet file each, or a folder each.
    store : StoreAddress
    version, version_column : str or None
        The version of all rows, or the column that names each row's: one of both.
    form : KnowledgeForm
    restart : bool
        Whether files of an earlier join are written anew.
    reads_per_second : float or None
        Most users read from the store in a second.
    """

    source: Path
    target: Path
    store: StoreAddress
    version: str | None
    version_column: str | None
    form: KnowledgeForm
    restart: bool = False
    reads_per_second: float | None = None

    def questions(self, table: ParquetTable) -> RowQuestions:
        """Return what reads the questions that a table's rows are; raises as `RowQuestions`."""
        name, added = str(table.path), self.form.names
        return RowQuestions(
            name, table.schema, self.version, self.version_column, added, table.null_columns
        )


@dataclass(frozen=True, slots=True)
class FileJob:
    """A file to join.

    Attributes
    ----------
    files : FilePair
    table : ParquetTable
        The input, when its versions were read.
    versions : tuple of str
        Those that its rows name.
    asked : mapping
        What is asked of which input: only the same is what a later run would write.
    """

    files: FilePair
    table: ParquetTable
    versions: tuple[str, ...]
    asked: Mapping[str, Any]


class Answers(Protocol):
    """Answers the rows of one table, in order."""

    spans: Spans
    counts: I64

    def columns(self, columns: Columns) -> tuple[pa.ChunkedArray, ...]:
        """Return the columns that are added to the next rows."""
        ...


class Joiner:
    """Joins files, one after the other; can be made anew in other processes.

    Parameters
    ----------
    options : JoinOptions
    snapshot : Snapshot
    versions : tuple of str
        Every version that a row of any file names.
    """

    def __init__(self, options: JoinOptions, snapshot: Snapshot, versions: tuple[str, ...]) -> None:
        self._options = options
        self._versions = versions
        self._reader = SnapshotReader(snapshot)

    def close(self) -> None:
        """Let go of the store."""
        self._reader.close()

    def check(self, jobs: Iterable[FileJob]) -> None:
        """Check that rows of all versions can be answered, in one form, and those of files are.

        Raises
        ------
        StoreError
            If a generation cannot be read.
        CommandError
            If widths or types of ids differ, or numbers may overflow.
        TableFileError
            If a file's ids are not of the type that those of its versions are.
        """
        generations = self._reader.load(self._versions)
        RowLayer(generations, self._reader.fetch, self._options.form)
        for job in jobs:
            questions = self._options.questions(job.table)
            for version in job.versions:
                questions.require_types(generations[version].manifest.spec)

    def join(self, job: FileJob, progress: Progress) -> I64:
        """Write one file; return how often each part had each status, shape (4, 3).

        Raises
        ------
        TableFileError
            If a row cannot be asked, or a file not be read or written.
        StoreError
            If the store fails, or no longer keeps a generation.
        """
        form, table = self._options.form, job.table
        questions = self._options.questions(table)
        with (
            replacing(job.files.temporary, job.files.target) as path,
            self._answers(table, questions, path.parent, progress) as answers,
        ):
            metadata = Sources.of(self._reader.manifests(job.versions)).metadata()
            metadata[JOIN_KEY] = json.dumps(job.asked)
            schema = form.joined(table.schema, answers.spans, metadata)
            groups = _joined(table, questions, answers, form, schema)
            with parquet_writer(path, schema, form.names) as writer:
                for rows in _written_behind(writer, groups):
                    progress(rows)
            self._reader.require_kept(job.versions)
        return answers.counts

    @contextmanager
    def _answers(
        self, table: ParquetTable, questions: RowQuestions, folder: Path, progress: Progress
    ) -> Iterator[Answers]:
        form, fetch = self._options.form, self._reader.fetch
        generations = self._reader.load(self._versions)
        if self._options.store.is_mapped:
            yield RowLayer(generations, fetch, form)
            return
        if self._options.reads_per_second is not None:
            fetch = PacedFetch(fetch, self._options.reads_per_second)
        with closing(SpilledAnswers(folder, table.rows, generations, fetch, form)) as spilled:
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
    row_bytes = width_of(answers.spans) * form.numbers.itemsize + len(PARTS)
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
