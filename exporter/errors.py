"""What an export refuses, as exceptions that name the file and, where there is one, column and row.

::

    GkcError
    ├── BundleError             the manifest, a path, a checksum or a model's signature is wrong
    ├── FeatureTableError       a table's schema or one of its values is wrong
    ├── ModelOutputError        a model failed, or gave something that is no knowledge
    ├── VerificationError       the store does not give back what was written or recomputed
    ├── SpillError              the temporary directory does not take the rows
    └── InterruptedExportError  the user, or a SIGTERM, ended the export
"""

from __future__ import annotations

from typing import Final

from gkc.errors import GkcError

_MOST_CHARACTERS: Final = 2000


def _shortened(text: str) -> str:
    """Leave out the middle of what a bundle may have made megabytes long."""
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]} … {text[-half:]}"


class BundleError(GkcError):
    """A bundle's manifest, paths, checksums or model signatures do not fit the format."""

    def __init__(self, file: str, problem: str) -> None:
        self.file = file
        self.problem = problem
        told = f"{_shortened(file)}: {_shortened(problem)}"
        super().__init__(f"{told}; mend the bundle, then export again")


class FeatureTableError(GkcError):
    """A feature table lacks something, or holds a value that cannot be exported.

    ``row`` counts from 0 within ``file``.
    """

    def __init__(
        self, file: str, problem: str, *, column: str | None = None, row: int | None = None
    ) -> None:
        self.file = file
        self.problem = problem
        self.column = column
        self.row = row
        where = file
        if column is not None:
            where += f", column {column!r}"
        if row is not None:
            where += f", row {row} (counted from 0)"
        super().__init__(f"{where}: {problem}; nothing was written")


class ModelOutputError(GkcError):
    """A model failed on a row, or its output for it is no knowledge vector.

    ``row`` counts from 0 within ``file``, the table whose row was fed; None where no one row is
    to blame.
    """

    def __init__(self, model: str, output: str, file: str, row: int | None, problem: str) -> None:
        self.model = model
        self.output = output
        self.file = file
        self.row = row
        self.problem = problem
        where = file if row is None else f"{file}, row {row} (counted from 0)"
        super().__init__(
            f"{model}, output {output!r}, for {where}: {problem}; nothing was published"
        )


class VerificationError(GkcError):
    """A stored vector is not the one that was written, or that the models give."""

    def __init__(self, generation: str, what: str) -> None:
        self.generation = generation
        self.what = what
        super().__init__(f"generation {generation}: {what}; export its version again")


class SpillError(GkcError):
    """The temporary directory does not take the rows that wait to be exported."""

    def __init__(self, directory: str, cause: OSError) -> None:
        self.directory = directory
        self.cause = cause
        super().__init__(
            f"temporary files in {directory}: {cause.strerror}; "
            "name a directory with more room in TMPDIR, then export again"
        )


class InterruptedExportError(GkcError):
    """The user or a SIGTERM ended the export."""

    def __init__(self, version: str, *, published: bool) -> None:
        self.version = version
        self.published = published
        if published:
            rest = "is published; the next writer deletes what it retired"
        else:
            rest = "was not published; go on with --resume, or start anew without it"
        super().__init__(f"interrupted; version {version!r} {rest}")
