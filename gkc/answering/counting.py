"""What answering tells of its reads of the store, to whoever counts them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from gkc.errors import GenerationCorruptError


class Counting(Protocol):
    """Is told of reads of the store."""

    def store_operation(self, operation: str) -> AbstractContextManager[None]:
        """Return what is entered around one read: it may time it, and count it if it fails."""
        ...

    def store_error(self, operation: str) -> None:
        """Take note that a read which went through found something lost or damaged."""
        ...


class NoCounting:
    """Counts nothing, where nobody would read it (a `Counting`)."""

    def store_operation(self, operation: str) -> AbstractContextManager[None]:
        """Return what does nothing."""
        return nullcontext()

    def store_error(self, operation: str) -> None:
        """Do nothing."""


class DamageCount:
    """Counts damage that is found in what a read gave; to be entered by any number of callers.

    Parameters
    ----------
    counting : Counting
    operation : str
        The read.
    """

    __slots__ = ("_counting", "_operation")

    def __init__(self, counting: Counting, operation: str) -> None:
        self._counting = counting
        self._operation = operation

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Count damage."""
        if kind is not None and issubclass(kind, GenerationCorruptError):
            self._counting.store_error(self._operation)
