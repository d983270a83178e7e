"""What a request over HTTP says about its deadline."""

from __future__ import annotations

from time import monotonic
from typing import Final

from starlette.types import Scope

from gkc.answering.deadlines import Deadline, Deadlines
from gkc.errors import InvalidHeaderError
from gkc.http.asgi import headers

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
LONGEST_TIMEOUT_MS: Final = 600_000
ARRIVED: Final = "gkc.arrived"
"""Where a scope has the moment at which its head was here, on the monotonic clock."""
_ALLOWED_BY: Final = f"{TIMEOUT_HEADER} (timeout= of a client)"
_NAME: Final = TIMEOUT_HEADER.lower().encode()
_DIGITS: Final = len(str(LONGEST_TIMEOUT_MS))


def deadline_of(scope: Scope, deadlines: Deadlines) -> Deadline:
    """Return the deadline of a request: what its caller allows, or the most there is if less.

    Raises
    ------
    InvalidHeaderError
        If what the caller says is no such time.
    """
    began: float = scope.get(ARRIVED) or monotonic()
    given = headers(scope).get(_NAME)
    if given is None:
        return deadlines.within(began)
    milliseconds = int(given) if given.isdigit() and len(given) <= _DIGITS else 0
    if not 1 <= milliseconds <= LONGEST_TIMEOUT_MS:
        right = f"send it once, as a whole number of milliseconds from 1 to {LONGEST_TIMEOUT_MS}"
        raise InvalidHeaderError(TIMEOUT_HEADER, right)
    return deadlines.within(began, milliseconds / 1000, _ALLOWED_BY)
