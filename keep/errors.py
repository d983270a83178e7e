"""What can go wrong with logs and where they come from; the tree hangs below ``GkcError``.

::

    GkcError
    └── KeepError
        ├── LogError                  something about a log on disk
        │   ├── LogNotFoundError      there is no log where one was named
        │   ├── LogSchemaError        a log, or a file to be imported, breaks the schema
        │   └── LogPathTakenError     --out holds something that must not be replaced
        ├── SourceError               what a log is made from cannot be had or read
        │   ├── DownloadError         a public data set cannot be downloaded
        │   ├── ChecksumError         a file is not the one that was published
        │   └── SourceFormatError     a source file is not in its format
        └── ProblemError              a thing that cannot be used, or a step that failed

The kinds of ``ProblemError`` (``CheckpointError``, ``BundleError``, ``ConfigError``, ...) live
beside the code that raises them.
"""

from __future__ import annotations

from pathlib import Path

from gkc.errors import GkcError


class KeepError(GkcError):
    """Base of what goes wrong in pretraining and around it."""


class ProblemError(KeepError):
    """A thing that cannot be used, or a step that failed: which, and what is wrong with it."""

    kind = ""
    """What kind of thing it is, for the message."""

    def __init__(self, subject: object, problem: str) -> None:
        self.subject = subject
        self.problem = problem
        super().__init__(f"{self.kind}{subject}: {problem}")


class LogError(KeepError):
    """Something about a log on disk."""


class LogNotFoundError(LogError):
    """There is no log where one was named."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} is no log: it has no log.json; make one with keep fetch, import or simulate"
        )


class LogSchemaError(LogError):
    """A log, or a file that is to become one, breaks the schema.

    ``row`` counts from 0 within the file; None where the fault is the column's, or the file's.
    """

    def __init__(self, file: Path, reason: str, column: str = "", row: int | None = None) -> None:
        self.file = file
        self.reason = reason
        self.column = column
        self.row = row
        where = f", column {column!r}" if column else ""
        where += "" if row is None else f", row {row}"
        super().__init__(f"{file}{where}: {reason}; the schema is in docs/log-schema.md")


class LogPathTakenError(LogError):
    """The path of a new log holds something that must not be replaced."""

    def __init__(self, path: Path, found: str, name: str) -> None:
        self.path = path
        self.found = found
        self.name = name
        super().__init__(
            f"{path} is {found}; only a log named {name!r} or an empty directory is replaced: "
            "name another --out, or remove it"
        )


class SourceError(KeepError):
    """What a log is made from cannot be had or read."""


class DownloadError(SourceError):
    """A public data set cannot be downloaded."""

    def __init__(self, what: str, cause: str, remedy: str) -> None:
        self.what = what
        self.cause = cause
        self.remedy = remedy
        super().__init__(f"{what} cannot be downloaded: {cause}; {remedy}")


class ChecksumError(SourceError):
    """A file is not the one that was published under its name."""

    def __init__(self, file: Path, expected: str, found: str) -> None:
        self.file = file
        self.expected = expected
        self.found = found
        super().__init__(
            f"{file} has SHA-256 {found}, not {expected}; remove it and fetch it again"
        )


class SourceFormatError(SourceError):
    """A source file is not in the format that it was given as.

    ``line`` counts from 1, a header included; None where the fault is not one line's.
    """

    def __init__(self, file: Path, reason: str, line: int | None = None, column: str = "") -> None:
        self.file = file
        self.reason = reason
        self.line = line
        self.column = column
        where = "" if line is None else f", line {line}"
        where += f", column {column!r}" if column else ""
        super().__init__(f"{file}{where}: {reason}")
