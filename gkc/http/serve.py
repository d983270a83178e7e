"""``gkc serve``: a listening socket, and workers on it, watched by this process.

It says that it serves once every worker answers. Until then a signal that stops it ends it at
once, with the exit status of a stop: there is nothing yet that would have to be finished.
"""

from __future__ import annotations

import logging
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from gkc.compiled import library
from gkc.errors import CommandError, ServiceNotReadyError
from gkc.http.api_keys import follow_keys
from gkc.http.limits import LIMITS, Limits
from gkc.http.listener import listen
from gkc.http.metrics import share_values
from gkc.http.metrics_directory import metrics_directory
from gkc.http.run import run
from gkc.http.tls import follow_tls
from gkc.http.workers import STOPPING, Assignment, WorkerLimits, Workers
from gkc.interrupts import exit_when_told
from gkc.logs import set_up_logging
from gkc.settings import Settings
from gkc.store import parse_store_url

log = structlog.get_logger(__name__)

_FEW_DESCRIPTORS: Final = 1024
_MANY_DESCRIPTORS: Final = 65_536
_SPARE_SECONDS: Final = 5.0
"""Beyond what requests under way may take: for a worker to close its store and end."""


def serve(settings: Settings, announce: Callable[[str], None], limits: Limits = LIMITS) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Parameters
    ----------
    settings : Settings
    announce : callable
        Told one line, once every worker answers.
    limits : Limits, optional
        Of each connection.

    Raises
    ------
    RowRuleError
        If the compiled rule of rows does not work here.
    StoreUrlError
        If the URL names no store.
    CommandError
        If the address cannot be listened on, the keys cannot be read, or a worker cannot begin.
    """
    exit_when_told()
    set_up_logging(logging.INFO)
    library()  # if it cannot work, one process says so and not each worker
    store = parse_store_url(settings.store_url)
    follow_keys(settings)  # they, too, are refused here, if they are broken
    follow_tls(settings)
    stop_seconds = settings.drain_delay_seconds + settings.drain_seconds + _SPARE_SECONDS
    worker_limits = WorkerLimits(settings.stuck_seconds, stop_seconds)
    _take_descriptors()
    with (
        listen(settings.host, settings.port) as listener,
        _listen_to_operators(settings) as admin_listener,
    ):
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        count = "" if settings.workers == 1 else f", {settings.workers} workers"
        scheme = "https" if settings.tls_cert_file else "http"
        admin = f", admin port {settings.admin_port}" if settings.admin_port else ""
        line = (
            f"serving {scheme}://{shown}:{port} from {store.shown} "
            f"(namespace {settings.namespace}{count}{admin})"
        )
        workers = Workers(settings.workers, listener, worker_limits)
        with metrics_directory() as directory:
            share_values(directory)
            work = partial(_work, settings, limits, directory, admin_listener)
            clean_up = partial(shutil.rmtree, directory, ignore_errors=True)
            workers.run(work, lambda: announce(line), clean_up)
    for number in STOPPING:  # being told once more changes nothing, not even the exit status
        signal.signal(number, signal.SIG_IGN)


def _listen_to_operators(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    return listen(settings.host, settings.admin_port) if settings.admin_port else nullcontext()


def _work(
    settings: Settings,
    limits: Limits,
    directory: Path,
    admin_listener: socket.socket | None,
    assignment: Assignment,
) -> None:
    """Serve in a worker's process."""
    try:
        run(settings, limits, directory, admin_listener, assignment)
    except (CommandError, ServiceNotReadyError) as exc:  # what was whole when the parent read it
        log.error("worker_cannot_start", cause=str(exc))
        sys.exit(1)


def _take_descriptors() -> None:
    """Allow as many connections as the system lets us, and say so where those are few."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = _MANY_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _MANY_DESCRIPTORS)
    if allowed != resource.RLIM_INFINITY and allowed < many:
        resource.setrlimit(resource.RLIMIT_NOFILE, (many, most))
        allowed = many
    if 0 < allowed < _FEW_DESCRIPTORS:
        remedy = "each connection takes one: start it where `ulimit -n` says more"
        log.warning("few_descriptors", allowed=allowed, remedy=remedy)
