"""How far an export is, for a person or for a log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
_MOST_NAMED: Final = 10


class PhaseProgress:
    """Tells a person or a log which phase an export is in, and how far.

    Parameters
    ----------
    on_terminal : bool
        Whether standard error is a terminal: bars then, else one log line a phase.

    Attributes
    ----------
    phase : str
        The phase that was entered last.
    """

    def __init__(self, *, on_terminal: bool) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not on_terminal,
        )
        self._task = TaskID(0)
        self.phase: Phase = "validate"

    def __enter__(self) -> Self:
        """Show the bars, if there are any."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they stand."""
        self._bars.stop()

    def start(self, phase: Phase, total: int | None, **facts: str | int) -> None:
        """Enter a phase of ``total`` rows, None where rows are not counted."""
        self.phase = phase
        self._task = self._bars.add_task(phase, total=total)
        if self._bars.disable and phase in _LOGGED:
            log.info("export_phase", phase=phase, **facts)

    def tell_skipped(self, files: Sequence[str]) -> None:
        """Warn of tables' files that are passed over."""
        if not files:
            return
        more = f" and {len(files) - _MOST_NAMED:,} more" if len(files) > _MOST_NAMED else ""
        names = ", ".join(files[:_MOST_NAMED]) + more
        self.warn(
            f"passed over, since a name that begins with . or _ is a hidden one: {names}",
            "table_files_skipped",
            files=list(files),
        )

    def warn(self, line: str, event: str, **facts: object) -> None:
        """Warn people, and the log if there is one."""
        sys.stderr.write(f"gkc-export: warning: {line}\n")
        if self._bars.disable:
            log.warning(event, **facts)

    def advance(self, rows: int) -> None:
        """Count more rows of the phase as done."""
        self._bars.advance(self._task, rows)
