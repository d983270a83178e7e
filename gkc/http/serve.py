"""``gkc serve``: a listening socket, and workers on it, watched by this process.

It says that it serves once every worker answers. Until then a signal that stops it ends it at
once, with the exit status of a stop: there is nothing yet that would have to be finished.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from gkc.compiled import library
from gkc.http.listener import listen
from gkc.http.metrics_directory import metrics_directory
from gkc.http.workers import STOPPING, Assignment, WorkerLimits, Workers
from gkc.interrupts import exit_when_told
from gkc.logs import set_up_logging
from gkc.settings import Settings
from gkc.store import parse_store_url

_METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
_SPARE_SECONDS: Final = 5.0
"""Beyond what requests under way may take: for a worker to close its store and end."""


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Parameters
    ----------
    settings : Settings
    announce : callable
        Told one line, once every worker answers.

    Raises
    ------
    RowRuleError
        If the compiled rule of rows does not work here.
    StoreUrlError
        If the URL names no store.
    CommandError
        If the address cannot be listened on, or a worker cannot begin.
    """
    exit_when_told()
    set_up_logging(logging.INFO)
    library()  # if it cannot work, one process says so and not each worker
    store = parse_store_url(settings.store_url)
    stop_seconds = settings.drain_delay_seconds + settings.drain_seconds + _SPARE_SECONDS
    limits = WorkerLimits(settings.stuck_seconds, stop_seconds)
    with listen(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        count = "" if settings.workers == 1 else f", {settings.workers} workers"
        line = (
            f"serving http://{shown}:{port} from {store.shown} "
            f"(namespace {settings.namespace}{count})"
        )
        workers = Workers(settings.workers, listener, limits)
        with metrics_directory() as directory:
            os.environ[_METRICS_DIRECTORY] = str(directory)  # where each worker's library looks
            workers.run(partial(_work, settings, directory), lambda: announce(line))
    for number in STOPPING:  # being told once more changes nothing, not even the exit status
        signal.signal(number, signal.SIG_IGN)


def _work(settings: Settings, directory: Path, assignment: Assignment) -> None:
    """Serve in a worker's process, which alone imports what that needs."""
    set_up_logging(logging.INFO)
    from gkc.http.run import run

    run(settings, directory, assignment)
