"""How an export tells of its progress: bars on a terminal, elsewhere one log line a phase."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Literal, Self

import structlog
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = structlog.get_logger(__name__)

Phase = Literal["validate", "write", "verify", "publish", "evict", "check"]
_LOGGED: Final[frozenset[Phase]] = frozenset({"write", "verify", "publish", "evict"})
"""Phases that change the store; a refusal before them stays one line on standard error."""


class PhaseProgress:
    """Tells a person or a log which phase an export is in, and how far.

    Parameters
    ----------
    on_terminal : bool
        Whether standard error is a terminal: bars then, else log lines.

    Attributes
    ----------
    phase : str
        The phase that was entered last.
    """

    def __init__(self, *, on_terminal: bool) -> None:
        self._bars = (
            Progress(
                TextColumn("{task.description:<9}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            if on_terminal
            else None
        )
        self._task = TaskID(0)
        self.phase: Phase = "validate"

    def __enter__(self) -> Self:
        """Show the bars, if there are any."""
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bars as they stand."""
        if self._bars:
            self._bars.stop()

    def start(self, phase: Phase, total: int | None, **facts: str | int) -> None:
        """Enter a phase of ``total`` rows, None where rows are not counted."""
        self.phase = phase
        if self._bars:
            self._task = self._bars.add_task(phase, total=total)
        elif phase in _LOGGED:
            log.info("export_phase", phase=phase, **facts)

    def advance(self, rows: int) -> None:
        """Count more rows of the phase as done."""
        if self._bars:
            self._bars.advance(self._task, rows)
