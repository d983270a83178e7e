"""``gkc serve``: a listening socket, then one uvicorn server or several workers on it.

It says that it serves once every process answers. Until then a signal that stops it ends it at
once, with the exit status of a stop: there is nothing yet that would have to be finished.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn

from gkc.compiled import library
from gkc.errors import CommandError
from gkc.http.access import check_access
from gkc.http.admin import AdminServer
from gkc.http.app import Service
from gkc.http.connections import Connections
from gkc.http.limits import LIMITS, Limits
from gkc.http.memory import keep_freed_memory
from gkc.http.metrics import Metrics
from gkc.http.metrics_directory import metrics_directory
from gkc.http.tls import context_of
from gkc.http.wire import GatheringProtocol
from gkc.http.workers import STOPPING, Beats, Workers
from gkc.interrupts import exit_when_told
from gkc.logs import set_up_logging
from gkc.settings import Settings
from gkc.store import open_reader, parse_store_url

log = structlog.get_logger(__name__)

_BACKLOG: Final = 2048
_METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
_GRACE_SECONDS: Final = 30
_FEW_DESCRIPTORS: Final = 1024
_MANY_DESCRIPTORS: Final = 65_536
_SERVER_OPTIONS: Final[dict[str, Any]] = {
    "loop": "uvloop",
    "ws": "none",
    "lifespan": "on",
    "interface": "asgi3",
    "access_log": False,
    "log_config": None,
    "log_level": logging.WARNING,
    "server_header": False,
    "backlog": _BACKLOG,
    "timeout_graceful_shutdown": _GRACE_SECONDS,
}


def server_options(metrics: Metrics, limits: Limits = LIMITS) -> dict[str, Any]:
    """Return how uvicorn is run; the servers that `bench` compares with are run in the same way."""
    return {"http": partial(GatheringProtocol, Connections(metrics, limits)), **_SERVER_OPTIONS}


def serve(settings: Settings, announce: Callable[[str], None], limits: Limits = LIMITS) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Parameters
    ----------
    settings : Settings
    announce : callable
        Told one line, once every process answers.
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
    library()  # if it cannot work, one process says so and not each worker
    store = parse_store_url(settings.store_url)
    check_access(settings)
    _take_descriptors()
    with _listen(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if settings.tls_cert_file else "http"
        workers = "" if settings.workers == 1 else f", {settings.workers} workers"
        admin_port = f", admin port {settings.admin_port}" if settings.admin_port else ""
        line = (
            f"serving {scheme}://{shown}:{port} from {store.shown} "
            f"(namespace {settings.namespace}{workers}{admin_port})"
        )
        run = _run_alone if settings.workers == 1 else _run_workers
        with _listen_to_operators(settings) as admin:
            run(settings, limits, listener, admin, lambda: announce(line))
    for number in STOPPING:  # being told once more changes nothing, not even the exit status
        signal.signal(number, signal.SIG_IGN)


class _Server(uvicorn.Server):
    """A server that answers the requests in flight however often it is told to stop.

    uvicorn drops them, and tells a traceback, at a second Ctrl-C, which may come with the first:
    from the terminal, and from what runs it there.

    Parameters
    ----------
    config : uvicorn.Config
    admin : AdminServer, optional
        Runs beside it.
    """

    def __init__(self, config: uvicorn.Config, admin: AdminServer | None) -> None:
        super().__init__(config)
        self._admin = admin

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        await super().startup(sockets)
        if self._admin and not self.should_exit:
            await self._admin.begin()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is under way, then end."""
        if self._admin:
            await self._admin.end()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop."""
        if not self.should_exit:
            super().handle_exit(sig, frame)


class _AnnouncedServer(_Server):
    """A server that calls back once it accepts connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        admin: AdminServer | None,
        announce: Callable[[], None],
    ) -> None:
        super().__init__(config, admin)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        await super().startup(sockets)
        if not self.should_exit:
            self._announce()


def _run_alone(
    settings: Settings,
    limits: Limits,
    listener: socket.socket,
    admin: socket.socket | None,
    announce: Callable[[], None],
) -> None:
    service = _build(settings)
    options = server_options(service.metrics, limits)
    config = uvicorn.Config(service, **options, **_tls(service))
    server = _AnnouncedServer(config, AdminServer.of(service, admin, options), announce)
    # uvicorn handles signals while it runs, and raises the one that stopped it once more when it
    # is done; that is no failure.
    for number in STOPPING:
        signal.signal(number, lambda *_: None if server.started else os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it asks for new workers, and there is none
    server.run(sockets=[listener])


def _run_workers(
    settings: Settings,
    limits: Limits,
    listener: socket.socket,
    admin: socket.socket | None,
    announce: Callable[[], None],
) -> None:
    workers = Workers(settings.workers, listener)
    with metrics_directory() as directory:
        os.environ[_METRICS_DIRECTORY] = str(directory)  # where the library looks in each of them
        workers.run(partial(_work, settings, limits, directory, admin), announce)


def _work(
    settings: Settings,
    limits: Limits,
    directory: Path,
    admin: socket.socket | None,
    beats: Beats,
    listener: socket.socket,
) -> None:
    """Serve in a worker's process, which shares its metrics in a directory."""
    service = _build(settings, directory)
    options = server_options(service.metrics, limits)
    config = uvicorn.Config(
        service, callback_notify=beats, timeout_notify=0, **options, **_tls(service)
    )
    _Server(config, AdminServer.of(service, admin, options)).run(sockets=[listener])


def _tls(service: Service) -> dict[str, Any]:
    """Return what else uvicorn is told where it speaks TLS."""
    if service.tls is None:
        return {}
    context = context_of(service.tls)
    return {"ssl_context_factory": lambda *_: context}


def _build(settings: Settings, directory: Path | None = None) -> Service:
    set_up_logging(logging.INFO)
    library()
    reader = open_reader(
        settings.store_url,
        settings.namespace,
        mirror_dir=settings.mirror_dir,
        timeout_ms=settings.request_timeout_ms,
    )
    service = Service(settings, reader, directory)
    # What is there now stays: no later collection walks through it (169,000 objects, 36 to 71 ms).
    gc.collect()
    gc.freeze()
    keep_freed_memory()
    return service


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


def _listen_to_operators(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    return _listen(settings.host, settings.admin_port) if settings.admin_port else nullcontext()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        raise CommandError(
            f"cannot listen on {host}, port {port}: {exc.strerror or exc}; "
            "stop what uses it, or choose others with --host, --port and GKC_ADMIN_PORT"
        ) from exc
