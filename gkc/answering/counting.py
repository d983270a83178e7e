"""What answering tells of its reads of the store, to whoever counts them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


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
