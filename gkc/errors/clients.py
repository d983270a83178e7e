"""Errors that a client meets beyond those that the center tells it."""

from __future__ import annotations

from gkc.errors.root import GkcError


class ClientUsageError(GkcError):
    """A client was made or used as it cannot be; the message says what is wrong and what to do."""

    CLOSED = "this client is closed; make another one"
    OTHER_LOOP = "this AsyncClient belongs to another event loop; make one in each loop"


class DeadlineExceededError(GkcError):
    """No whole answer came in the time that ``allowed_by`` allows."""

    def __init__(
        self, source: str, timeout_seconds: float, reason: str = "", allowed_by: str = "timeout="
    ) -> None:
        self.source = source
        self.timeout_seconds = timeout_seconds
        self.reason = reason
        self.allowed_by = allowed_by
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"{source} gave no whole answer within {timeout_seconds:g} s{because}; "
            f"allow more by {allowed_by}, or ask for fewer rows"
        )


class GenerationChangedError(GkcError):
    """A version was published anew, again and again, while its rows were asked for in pieces."""

    def __init__(self, version: str, first: str, later: str) -> None:
        self.version = version
        self.first = first
        self.later = later
        super().__init__(
            f"version {version!r} went from generation {first} to {later} while its rows were "
            "asked for in pieces, also when they were asked for again; ask once more"
        )


class ServiceError(GkcError):
    """A service cannot be reached, or what it answers is no answer of ours."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"service {url}: {reason}; see that gkc serve runs there, and nothing between changes "
            "answers"
        )


class LockMismatchError(GkcError):
    """What is served is not what a downstream model was locked to."""

    def __init__(self, store: str, version: str, reason: str) -> None:
        self.store = store
        self.version = version
        self.reason = reason
        super().__init__(
            f"version {version!r} of {store} is not what was locked: {reason}; serve what the "
            "model was trained on, or train it anew and lock that"
        )
