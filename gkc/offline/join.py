"""A join of files: what is refused before anything is written, what is done already, who does what.

A file is written under another name and gets its own when it is whole, so every file under its own
name is finished, and tells in its metadata what it was made from. A run goes on with what is there
only if that is the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from gkc.arrays import I64
from gkc.errors import CommandError, TableFileError
from gkc.knowledge import PARTS
from gkc.offline.folders import FilePair, leftovers, pair_files, visible_files
from gkc.offline.form import VERSIONS_KEY
from gkc.offline.joiner import JOIN_KEY, FileJob, Joiner, JoinOptions
from gkc.offline.parquet import ParquetTable, remove_unlocked, schema_metadata
from gkc.offline.processes import run_in_processes
from gkc.offline.questions import RowQuestions
from gkc.offline.snapshot import Snapshot
from gkc.offline.spilled import Progress

_VERSION_ROWS: Final = 1 << 17


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
    counts : ndarray, shape (4, 3), int64
        How often each part had each status, among the rows joined now.
    """

    files: int
    rows: int
    kept: int
    seconds: float
    generations: Mapping[str, str]
    counts: I64


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
        jobs = [self._job(files) for files in pair_files(options.source, options.target)]
        self._versions = tuple(dict.fromkeys(version for job in jobs for version in job.versions))
        if not self._versions:
            raise CommandError(f"{options.source} has no rows, so none names a version")
        with closing(Joiner(options, self._snapshot, self._versions)) as joiner:
            joiner.check(jobs)
        self._former = self._find_former(jobs)
        is_kept = self._former if not options.restart else set[Path]()
        self._jobs = [job for job in jobs if job.files.target not in is_kept]
        self._kept = len(jobs) - len(self._jobs)
        self._rows = sum(job.table.rows for job in self._jobs)
        self.steps = self._rows * (1 if options.store.is_mapped else 2)

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
        counts = sum(self._run_jobs(progress), start=np.zeros((len(PARTS), 3), dtype=np.int64))
        return JoinReport(
            files=len(self._jobs),
            rows=self._rows,
            kept=self._kept,
            seconds=time.monotonic() - began,
            generations={v: self._snapshot.generations[v] for v in self._versions},
            counts=counts,
        )

    def _run_jobs(self, progress: Progress) -> Iterator[I64]:
        options, processes = self._options, min(len(self._jobs), len(os.sched_getaffinity(0)))
        if processes > 1:
            if options.reads_per_second is not None:
                options = replace(options, reads_per_second=options.reads_per_second / processes)
            made_of = options, self._snapshot, self._versions
            yield from run_in_processes(made_of, self._jobs, processes, progress)
            return
        with closing(Joiner(options, self._snapshot, self._versions)) as joiner:
            for job in self._jobs:
                yield joiner.join(job, progress)

    def _job(self, files: FilePair) -> FileJob:
        options, table = self._options, ParquetTable(files.source)
        stamp = table.stamp
        asked = {
            "input": {"rows": table.rows, "bytes": stamp.size, "mtime_ns": stamp.mtime_ns},
            "version": options.version,
            "version_column": options.version_column,
            "dtype": options.form.dtype,
            "parts": list(options.form.parts),
            "prefix": options.form.prefix,
        }
        versions = self._named(table, options.questions(table))
        return FileJob(files, table, tuple(versions), asked)

    def _named(self, table: ParquetTable, questions: RowQuestions) -> list[str]:
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

    def _find_former(self, jobs: Sequence[FileJob]) -> set[Path]:
        """Return the files that an earlier run of this join finished, or that it may replace.

        Raises
        ------
        TableFileError
            If there is another file, or one that was made otherwise and may not be replaced.
        """
        target, by_target = self._options.target, {job.files.target: job for job in jobs}
        former = set()
        for path in visible_files(target) if target.exists() else ():
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

    def _difference(self, told: Mapping[str, str], job: FileJob | None) -> str | None:
        """Say what keeps a file of an earlier join from being what this one would write."""
        if job is None:
            return "was joined from a file that is no longer there"
        differences = _differences(json.loads(told[JOIN_KEY]), job.asked)
        if differences:
            return f"was joined otherwise: {'; '.join(differences)}"
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


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what an earlier join was asked and this one is not, options and input alike."""
    told = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if key == "input":
            told += [f"the input's {what}" for what in _differences(old or {}, new or {})]
        elif key == "mtime_ns":
            told.append("time differs")
        else:
            told.append(f"{key.replace('_', ' ')} {_in_words(old)}, now {_in_words(new)}")
    return told


def _in_words(value: Any) -> str:  # noqa: ANN401 - of JSON
    return ",".join(value) if isinstance(value, list) else str(value or "none")
