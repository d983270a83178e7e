"""Signals that end commands, quietly, and without unfinished files where they write some.

While a command still imports what it works with, there is nothing yet that would have to be
finished, and Python would tell of Ctrl-C by a traceback of whatever was being imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

TERMINATED: Final = 128 + signal.SIGTERM
"""Exit status of a command that SIGTERM ended, as shells tell it."""


@contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """Have Ctrl-C end the process as if it were no Python; where it is ignored, it stays so."""
    is_handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if is_handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does, cleaning up, and then the process."""
    is_told = False

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal is_told
        is_told = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing is to interrupt the cleaning up
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if is_told:
            raise SystemExit(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_when_told() -> None:
    """Have SIGTERM and SIGINT end the process at once, from now on, with exit status 0."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
