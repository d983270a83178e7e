"""Logging of every gkc process: one line an event, on standard error, for people or machines."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from contextvars import Context, ContextVar
from dataclasses import dataclass
from traceback import format_tb
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

from gkc.errors import GkcError

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id")
"""Of the request that is under way, for every line that is logged meanwhile."""
_REPEATED_SECONDS: Final = 10.0
_OF_A_REQUEST: Final = frozenset(("request_id", "stack", "timestamp"))
"""What differs between lines that tell the same."""


def add_request_id(_: object, method: str, event: EventDict) -> EventDict:
    """Add the id of the request under way; a processor, cheaper than structlog's variables."""
    if request_id := REQUEST_ID.get(""):
        event.setdefault("request_id", request_id)
    return event


def cause_of(error: BaseException) -> str:
    """Return what may be told of an error: ours says why; any other may say anything, ids too."""
    if isinstance(error, GkcError):
        return str(error)
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: {os.strerror(error.errno)}"
    return name


def unforeseen(error: Exception) -> Exception | None:
    """Return an error whose place in the code is to be told, too; None for one of ours."""
    return None if isinstance(error, GkcError) else error


def tell_error(_: object, method: str, event: EventDict) -> EventDict:
    """Put an error's cause and its place in the code in the place of ``exc_info``.

    A processor of structlog, instead of those that render tracebacks, with all that errors say.
    """
    error = event.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif not isinstance(error, BaseException):
        error = sys.exception() if error else None
    if error is not None:
        event.setdefault("cause", cause_of(error))
        event["stack"] = "".join(format_tb(error.__traceback__))
    return event


@dataclass
class _Line:
    """What was told, when it may be told again, and how often it could have been since."""

    logger: str
    method: str
    event: EventDict
    until: float
    count: int = 0


class Repetitions:
    """Counts warnings and errors that were told a moment ago, as ``repeated`` of the next line.

    They are those of one event whose values are the same, but for what belongs to a request. The
    count is told with the first event of any kind after ten seconds, or as the process ends.
    """

    def __init__(self) -> None:
        self._lines: dict[object, _Line] = {}
        self._lock = threading.RLock()  # threads log, too

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ANN401
        """Let an event pass, or count it."""
        if "repeated" in event:
            return event
        now = time.monotonic()
        self.tell(now)
        if method in ("warning", "error"):
            self._count(logger.name, method, event, now)
        return event

    def _count(self, logger: str, method: str, event: EventDict, now: float) -> None:
        told = [(name, str(event[name])) for name in sorted(event.keys() - _OF_A_REQUEST)]
        until = now + _REPEATED_SECONDS
        with self._lock:
            line = self._lines.setdefault(
                (logger, method, *told), _Line(logger, method, event, until)
            )
            if line.event is not event:
                line.event = event
                line.count += 1
                raise structlog.DropEvent

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._lines = {}

    def tell(self, now: float = float("inf")) -> None:
        """Tell how often each line was repeated whose time is over; without a time, all of them."""
        with self._lock:
            for key in [key for key, line in self._lines.items() if line.until <= now]:
                line = self._lines.pop(key)
                if line.count:
                    again = _Line(line.logger, line.method, line.event, now + _REPEATED_SECONDS)
                    self._lines[key] = again
                    log = getattr(structlog.get_logger(line.logger), line.method)
                    # Outside the request that happens to be under way, whose id is another one.
                    Context().run(log, **line.event, repeated=line.count)


REPETITIONS: Final = Repetitions()
"""Of this process, whose end may tell them itself: signals end some without `atexit`."""

_SHARED: Final[tuple[Processor, ...]] = (
    add_request_id,
    tell_error,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def set_up_logging(level: int = logging.INFO) -> None:
    """Send all logging, structlog's and the standard library's, to standard error.

    On a terminal lines are coloured and aligned; elsewhere each is one JSON object with ``event``,
    ``level`` and ``timestamp`` (UTC, ISO 8601). Standard output stays free for a command's answer.
    A warning or an error that tells what one before it told is counted (`Repetitions`). Calling it
    again replaces what was set up.

    Parameters
    ----------
    level : int
        The lowest level that is shown, as in `logging`.
    """
    REPETITIONS.forget()
    atexit.register(REPETITIONS.tell)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            REPETITIONS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = _StandardErrorHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer()
                if sys.stderr.isatty()
                else structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _StandardErrorHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


def log_as_the_caller_does() -> None:
    """Hand events to the standard library's logging, in a process that is not ours.

    Its warnings are then on standard error, and the rest is there for who asks for it. Where
    structlog is set up, by us or by the caller, it stays as it is; where nobody did, it would print
    everything to standard output.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            tell_error,
            structlog.processors.LogfmtRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


class _StandardErrorHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is standard error at that moment, should it be redirected after the set-up."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)
