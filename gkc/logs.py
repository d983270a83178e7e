"""Logging of every gkc process: one line an event, on standard error, for people or machines."""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog
from structlog.typing import Processor

_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def set_up_logging(level: int = logging.INFO) -> None:
    """Send all logging, structlog's and the standard library's, to standard error.

    On a terminal lines are coloured and aligned; elsewhere each is one JSON object with ``event``,
    ``level`` and ``timestamp`` (UTC, ISO 8601). Standard output stays free for a command's answer.
    Calling it again replaces what was set up.

    Parameters
    ----------
    level : int
        The lowest level that is shown, as in `logging`.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
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
                *_renderers(for_people=sys.stderr.isatty()),
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
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _renderers(*, for_people: bool) -> list[Processor]:
    if for_people:
        # Plain: structlog's own choice shows local variables, and with them ids and passwords.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


class _StandardErrorHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is standard error at that moment, should it be redirected after the set-up."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)
