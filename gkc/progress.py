"""Progress bars: on a terminal only, and on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn


@contextmanager
def progress(
    what: str, total: int | None, *columns: ProgressColumn
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while the block runs.

    What is yielded is told how much was done since the last call; ``total`` is None where it is not
    known.
    """
    bars = Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )
    with bars:
        task = bars.add_task(what, total=total)
        yield lambda amount: bars.advance(task, amount)
