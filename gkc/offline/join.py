"""A join of files: what is refused before anything is written, what is done already, who does what.

A file is written under another name and gets its own when it is whole, so every file under its own
name is finished, and tells in its metadata what it was made from. A run goes on with what is there
only if that is the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gkc.errors import CommandError, TableFileError
from gkc.offline.folders import FilePair, leftovers, pair_files, visible_files
from gkc.offline.form import VERSIONS_KEY, KnowledgeForm, sources
from gkc.offline.joiner import FileJob, Joiner, JoinTask, check_answerable
from gkc.offline.laying import Statuses
from gkc.offline.parquet import ParquetTable, remove_unlocked, schema_metadata
from gkc.offline.processes import run_in_processes
from gkc.offline.questions import RowQuestions
from gkc.offline.snapshot import Snapshot, StoreAddress
from gkc.offline.spilled import Progress

JOIN_KEY: Final = "gkc.join"
"""Of a file's metadata: what was asked of which input, JSON."""
_VERSION_ROWS: Final = 1 << 17


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


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What a join did.

    Attributes
    ----------
    files, rows : int
        That were joined now.
    kept : int
        Files that an earlier run had finished.
    seconds : float
    generations : mapping of str to str
        By version.
    statuses : Statuses
        Of the rows joined now.
    """

    files: int
    rows: int
    kept: int
    seconds: float
    generations: Mapping[str, str]
    statuses: Statuses


@dataclass(frozen=True, slots=True)
class _Input:
    """A file to read: how many rows, which versions they name, and what tells that it changed."""

    files: FilePair
    rows: int
    versions: tuple[str, ...]
    state: Mapping[str, int]


class Join:
    """A join that may begin; nothing was written yet.

    Parameters
    ----------
    options : JoinOptions

    Attributes
    ----------
    steps : int
        How much `run` tells of its progress, in all.

    Raises
    ------
    TableFileError
        If a file is in the way, cannot be read, or its rows cannot be asked.
    CommandError
        If options do not fit one another or the versions.
    StoreError
        If there is no such version, or the store cannot be read.
    """

    def __init__(self, options: JoinOptions) -> None:
        self._options = options
        if options.reads_per_second is not None and options.store.is_mapped:
            raise CommandError(
                "--max-reads-per-second is for a store behind a network; leave it out"
            )
        self._snapshot = Snapshot.take(options.store)
        if options.version is not None:
            self._snapshot.generation(options.version)
        inputs = [self._input(files) for files in pair_files(options.source, options.target)]
        versions = dict.fromkeys(version for one in inputs for version in one.versions)
        if not versions:
            raise CommandError(f"{options.source} has no rows, so none names a version")
        self._task = JoinTask(
            self._snapshot,
            options.form,
            tuple(versions),
            options.version,
            options.version_column,
            options.reads_per_second,
        )
        check_answerable(self._task)
        self._former = self._find_former(inputs)
        todo = [one for one in inputs if one.files.target not in self._former]
        if options.restart:
            todo = inputs
        self._kept = len(inputs) - len(todo)
        self._rows = sum(one.rows for one in todo)
        self._jobs = [FileJob(one.files, one.versions, self._metadata(one)) for one in todo]
        self.steps = self._task.steps * self._rows

    def run(self, progress: Progress) -> JoinReport:
        """Join the files that are not finished.

        Raises
        ------
        TableFileError
            If a row cannot be asked, or a file not be read or written.
        StoreError
            If the store fails, or no longer keeps a generation.
        """
        began = time.monotonic()
        self._sweep()
        statuses = Statuses()
        for counted in self._run_jobs(progress):
            statuses.add(counted.counts)
        return JoinReport(
            files=len(self._jobs),
            rows=self._rows,
            kept=self._kept,
            seconds=time.monotonic() - began,
            generations={v: self._snapshot.generations[v] for v in self._task.versions},
            statuses=statuses,
        )

    def _run_jobs(self, progress: Progress) -> Iterator[Statuses]:
        processes = min(len(self._jobs), len(os.sched_getaffinity(0)))
        if processes > 1:
            yield from run_in_processes(self._task, self._jobs, processes, progress)
        elif self._jobs:
            with Joiner(self._task) as joiner:
                for job in self._jobs:
                    yield joiner.join(job, progress)

    def _input(self, files: FilePair) -> _Input:
        options, table = self._options, ParquetTable(files.source)
        name = str(table.path)
        options.form.check_free(name, table.schema)
        questions = RowQuestions(name, table.schema, options.version, options.version_column)
        told = files.source.stat()
        return _Input(
            files,
            table.rows,
            tuple(self._versions(table, questions)),
            {"rows": table.rows, "bytes": told.st_size, "mtime_ns": told.st_mtime_ns},
        )

    def _versions(self, table: ParquetTable, questions: RowQuestions) -> list[str]:
        """Return the versions that a table's rows name, all of them known."""
        if self._options.version is not None:
            return [self._options.version]
        column = self._options.version_column
        assert column is not None
        found: dict[str, None] = {}
        for first, batch in table.batches(_VERSION_ROWS, [column]):
            versions, index = questions.versions(batch, first)
            for code, version in enumerate(versions):
                if version not in self._snapshot.generations:
                    row = first + int((index == code).argmax())
                    there = ", ".join(self._snapshot.generations) or "none"
                    problem = f"version {version!r} is not in the store; versions there: {there}"
                    raise questions.error(problem, column, row)
                found[version] = None
        return list(found)

    def _metadata(self, one: _Input) -> dict[str, str]:
        generations = {v: self._snapshot.generations[v] for v in one.versions}
        asked = json.dumps(self._asked(one))
        return {**sources(generations, self._snapshot.vector_spaces), JOIN_KEY: asked}

    def _asked(self, one: _Input) -> dict[str, Any]:
        options = self._options
        return {
            "input": one.state,
            "version": options.version,
            "version_column": options.version_column,
            "dtype": options.form.dtype,
            "parts": list(options.form.parts),
            "prefix": options.form.prefix,
        }

    def _find_former(self, inputs: Sequence[_Input]) -> set[Path]:
        """Return the files that an earlier run of this join finished, or that it may replace.

        Raises
        ------
        TableFileError
            If there is another file, or one that was made otherwise and may not be replaced.
        """
        target, by_target = self._options.target, {one.files.target: one for one in inputs}
        former = set()
        for path in _files_at(target):
            told = schema_metadata(path)
            if JOIN_KEY not in told:
                raise TableFileError(
                    str(path), "is there, and no join wrote it; name another place"
                )
            problem = self._difference(told, by_target.get(path))
            if problem and not self._options.restart:
                raise TableFileError(str(path), f"{problem}; --restart joins everything anew")
            former.add(path)
        return former

    def _difference(self, told: Mapping[str, str], one: _Input | None) -> str | None:
        """Say what keeps a file of an earlier join from being what this one would write."""
        if one is None:
            return "was joined from a file that is no longer there"
        if json.loads(told[JOIN_KEY]) != self._asked(one):
            return "was joined from other rows, or with other options"
        for version, generation in json.loads(told[VERSIONS_KEY]).items():
            current = self._snapshot.generations.get(version)
            if generation != current:
                return (
                    f"was joined from {generation} of version {version!r}, which is {current} now"
                )
        return None

    def _sweep(self) -> None:
        """Remove what killed runs left unfinished, and what is to be joined anew."""
        for path in leftovers(self._options.source, self._options.target):
            remove_unlocked(path)
        if self._options.restart:
            for path in self._former:
                path.unlink(missing_ok=True)


def _files_at(target: Path) -> Iterable[Path]:
    if target.is_dir():
        return visible_files(target)
    return [target] if target.exists() else []
