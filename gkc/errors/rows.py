"""Errors about rows and records: their shapes, bytes and compiled rule, and tables of them."""

from __future__ import annotations

from gkc.errors.root import GkcError


class LayoutError(GkcError):
    """Shapes, dtypes or widths that do not fit each other."""


class NotStorableError(LayoutError):
    """A vector does not stay finite in the element type it is stored in.

    ``row`` is the position of the first such vector in the array that was given.
    """

    def __init__(self, row: int, value: float, element_type: str) -> None:
        self.row = row
        self.value = value
        self.element_type = element_type
        super().__init__(f"row {row} holds {value!r}, which is not finite as {element_type}")


class RecordError(LayoutError):
    """Bytes are not the record that they should be; the message names the field."""


class EarlierFormatError(RecordError):
    """Bytes are a record that an earlier gkc wrote."""

    def __init__(self) -> None:
        super().__init__("was written by an earlier gkc, in format 1")


class RowRuleError(GkcError):
    """The compiled rule of a row is missing, is of another platform, or answers other bits."""

    def __init__(self, reason: str, build: str) -> None:
        self.reason = reason
        self.build = build
        super().__init__(
            f"the compiled rule of rows {reason}; it is {build}: install gkc anew for this machine "
            "(in a checkout: make install)"
        )


class TableFileError(GkcError):
    """A table of rows cannot be joined, or a file is in the way of what would be written.

    ``row`` counts from 0 within its file, or within all batches that were given.
    """

    def __init__(
        self, file: str, problem: str, column: str | None = None, row: int | None = None
    ) -> None:
        self.file = file
        self.problem = problem
        self.column = column
        self.row = row
        where = "" if column is None else f", column {column!r}"
        where += "" if row is None else f", row {row} (counted from 0)"
        super().__init__(f"{file}{where}: {problem}")
