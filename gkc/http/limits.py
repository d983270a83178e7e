"""What one caller may take, so that the others do not feel it; `docs/http.md` has a table of all.

Of a connection: how much of a head is read, how long is waited. Of a question: rows and bytes are
settings; the rest is checked before anything is done for each value, so that no body holds up the
loop.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from gkc.center.question import Question
from gkc.compiled import library
from gkc.errors import InvalidFieldsError, TooManyValuesError, TooManyVersionsError


@dataclass(frozen=True)
class Limits:
    """Of one connection. Attributes in seconds are how long a caller may keep us waiting."""

    url_bytes: int = 8192
    head_bytes: int = 32_768
    """Of URL, names and values, with four bytes more for each of the latter."""
    headers: int = 100
    requests_ahead: int = 16
    """Sent behind one that is being answered; one more is refused behind their answers."""
    head_seconds: float = 10.0
    """From the first byte of a head to its last one."""
    body_seconds: float = 30.0
    """Without a byte of the body; after the answer, for all that is still to come of it."""
    write_seconds: float = 30.0
    """Without a byte of the answer being taken."""
    idle_seconds: float = 75.0
    """Longer than callers keep idle connections, so that it is they who close them."""
    linger_seconds: float = 2.0
    """For a caller that was refused to read why."""
    look_seconds: float = 1.0
    """From one look at all connections to the next: so late may anything above be noticed."""


LIMITS: Final = Limits()
MAX_ACCEPT_BYTES: Final = 1024
MAX_VERSIONS: Final = 64
MAX_FIELDS_NAMED: Final = 20
MAX_NAME_CHARACTERS: Final = 128
"""How much of a field's name is told; what is longer ends with an ellipsis."""
VALUES_OF_ROW: Final = 5
"""The most that one row takes: four values of an object."""
VALUES_BESIDES: Final = 100
_UNCOUNTED_BYTES: Final = 65_536
"""JSON that cannot hold so many values that they would matter."""


def refuse_many_values(text: bytes, max_rows: int) -> None:
    """Refuse JSON with more values than ``max_rows`` rows need, before any is read.

    Raises
    ------
    TooManyValuesError
        If it has.
    """
    if len(text) > _UNCOUNTED_BYTES:
        most = VALUES_OF_ROW * max_rows + VALUES_BESIDES
        if library().gkc_count_values(text, len(text), most) > most:
            raise TooManyValuesError(most, max_rows)


def refuse_many_versions(question: Question) -> None:
    """Refuse a question that names too many versions.

    Raises
    ------
    TooManyVersionsError
        If it does.
    """
    versions = len(question.columns.versions)
    if versions > MAX_VERSIONS:
        raise TooManyVersionsError(versions, MAX_VERSIONS)


def refuse_unknown(fields: Collection[str], known: Collection[str], inside: str = "") -> None:
    """Refuse fields that are not known.

    Raises
    ------
    InvalidFieldsError
        If there are any: names the first of them, in order, and says how many more there are.
    """
    unknown = set(fields).difference(known)
    if unknown:
        named = nsmallest(MAX_FIELDS_NAMED, unknown)
        more = len(unknown) - len(named)
        reason = f"is not a known field (known: {', '.join(sorted(known))})"
        reason += f", nor are {more} more" if more else ""
        raise InvalidFieldsError(reason, *(f"{inside}/{_pointer(name)}" for name in named))


def _pointer(name: str) -> str:
    """Escape a field's name for a JSON Pointer (RFC 6901); half a surrogate pair as JSON does."""
    if len(name) > MAX_NAME_CHARACTERS:
        name = name[:MAX_NAME_CHARACTERS] + "…"
    plain = name.encode(errors="backslashreplace").decode()
    return plain.replace("~", "~0").replace("/", "~1")
