"""``gkc serve``: a listening socket, then one uvicorn server or several workers on it."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from typing import Any, Final

import structlog
import uvicorn
from uvicorn.supervisors import Multiprocess

from gkc.errors import CommandError
from gkc.logs import set_up_logging
from gkc.rows import library
from gkc.service.app import Service
from gkc.service.wire import GatheringProtocol
from gkc.settings import Settings
from gkc.store import open_reader, parse_store_url

log = structlog.get_logger(__name__)

_BACKLOG: Final = 2048
_GRACE_SECONDS: Final = 30
_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than callers keep idle connections, so that it is they who close them."""
SERVER_OPTIONS: Final[dict[str, Any]] = {
    "loop": "uvloop",
    "http": GatheringProtocol,
    "ws": "none",
    "lifespan": "on",
    "interface": "asgi3",
    "access_log": False,
    "log_config": None,
    "log_level": logging.WARNING,
    "server_header": False,
    "backlog": _BACKLOG,
    "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
    "timeout_graceful_shutdown": _GRACE_SECONDS,
}
"""How uvicorn is run; the servers that `bench` compares with are run in the same way."""
_METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Parameters
    ----------
    settings : Settings
    announce : callable
        Told one line, once connections are accepted.

    Raises
    ------
    StoreUrlError
        If the URL names no store.
    CommandError
        If the address cannot be listened on.
    """
    store = parse_store_url(settings.store_url)
    with _listen(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        workers = "" if settings.workers == 1 else f", {settings.workers} workers"
        announce(
            f"serving http://{shown}:{port} from {store.shown} "
            f"(namespace {settings.namespace}{workers})"
        )
        # uvicorn raises the signal that stopped it once more when it is done; that is no failure.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        if settings.workers == 1:
            uvicorn.Server(_config(settings)).run(sockets=[listener])
        else:
            _run_workers(settings, listener)


def application() -> Service:
    """Build the application from the environment: what every worker does."""
    return _build(Settings())


def _build(settings: Settings) -> Service:
    set_up_logging(logging.INFO)
    library()
    reader = open_reader(
        settings.store_url,
        settings.namespace,
        mirror_dir=settings.mirror_dir,
        timeout_ms=settings.request_timeout_ms,
    )
    service = Service(settings, reader)
    # What is there now stays: no later collection walks through it (169,000 objects, 36 to 71 ms).
    gc.collect()
    gc.freeze()
    return service


def _run_workers(settings: Settings, listener: socket.socket) -> None:
    """Run the workers; their settings and their shared metrics reach them by the environment."""
    with tempfile.TemporaryDirectory(prefix="gkc-metrics-") as directory:
        os.environ.update(settings.to_environment())
        os.environ[_METRICS_DIRECTORY] = directory
        Multiprocess(_config(settings), sockets=[listener]).run()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        raise CommandError(
            f"cannot listen on {host}, port {port}: {exc.strerror or exc}; "
            "stop what uses it, or choose others with --host and --port"
        ) from exc


def _config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        "gkc.service.run:application" if settings.workers > 1 else _build(settings),
        factory=settings.workers > 1,
        workers=settings.workers,
        **SERVER_OPTIONS,
    )
