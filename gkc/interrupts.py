"""Signals that come while a command still imports what it works with: they end it, quietly.

There is nothing yet that would have to be finished, and Python would tell of Ctrl-C by a traceback
of whatever was being imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


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


def exit_when_told() -> None:
    """Have SIGTERM and SIGINT end the process at once, from now on, with exit status 0."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
