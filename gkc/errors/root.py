"""What every error is, tells and keeps on its way to another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, TypeVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request; ``field`` is a JSON Pointer (RFC 6901)."""

    field: str
    detail: str


class GkcError(Exception):
    """Base of every error that gkc raises on purpose.

    Attributes
    ----------
    errors : tuple of FieldError
        The fields of a question that are at fault, else none.
    status, title, retry_after : int, str, float, or None
        What a service told besides, where the error came over HTTP; ``retry_after`` in seconds.
    """

    errors: tuple[FieldError, ...] = ()
    status: int | None = None
    title: str | None = None
    retry_after: float | None = None

    @property
    def detail(self) -> str:
        """The message: what, which, what to do."""
        return str(self)

    @classmethod
    def as_told(cls, detail: str, **facts: Any) -> Self:  # noqa: ANN401
        """Return an error that another process met, with its message and the facts it told."""
        return _as_told(cls, (detail,), facts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the facts: constructors take the latter alone."""
        return _as_told, (type(self), self.args, self.__dict__)


ErrorT = TypeVar("ErrorT", bound=GkcError)


def _as_told(cls: type[ErrorT], args: tuple[Any, ...], facts: dict[str, Any]) -> ErrorT:
    error = cls.__new__(cls, *args)
    error.__dict__.update(facts)
    return error


class CommandError(GkcError):
    """A command cannot do what it was asked to do; the message says why and what to do."""
