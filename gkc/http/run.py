"""What a worker of ``gkc serve`` runs: the application under uvicorn, until it is told to leave.

On SIGTERM callers are told by ``Connection: close`` to go elsewhere, while the listener goes on
for the delay that load balancers need; then it closes, requests under way are answered for a
limited time, and what is left is cut. SIGINT is the same without the delay. One that retires stops
listening at once, for another listens in its place, and lets callers take their connections along.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from gkc.answering.serving import Serving
from gkc.compiled import library
from gkc.http.admin import AdminServer
from gkc.http.admission import Admission
from gkc.http.app import Service
from gkc.http.connections import Connections
from gkc.http.host import WorkerState
from gkc.http.limits import LIMITS, Limits
from gkc.http.listener import BACKLOG, take_no_more
from gkc.http.memory import keep_freed_memory
from gkc.http.metrics import Metrics
from gkc.http.metrics_directory import told_if_gone
from gkc.http.tls import context_of
from gkc.http.wire import GatheringProtocol
from gkc.http.workers import RETIRE, Assignment
from gkc.settings import Settings
from gkc.store import open_reader

log = structlog.get_logger(__name__)

_ACCEPTED_AT_ONCE: Final = 16
"""uvloop accepts one connection a turn of a listening socket, so this is listened on several times:
else those that are new would wait for hundreds of turns while others keep the loop busy."""
_LOOK_SECONDS: Final = 0.1
_FIRST_REQUEST_SECONDS: Final = 1.0
"""What a caller has from connecting to asking while the worker leaves."""
_CLOSING_SECONDS: Final = 1.0
"""What requests have to notice that their connection was cut."""
_CONNECTION_CLOSE: Final = (b"connection", b"close")
_SERVER_OPTIONS: Final[dict[str, Any]] = {
    "loop": "uvloop",
    "ws": "none",
    "lifespan": "on",
    "interface": "asgi3",
    "access_log": False,
    "proxy_headers": False,  # nobody asks here from where a request comes
    "log_config": None,
    "log_level": logging.WARNING,
    "server_header": False,
    "backlog": BACKLOG,
}


def server_options(
    metrics: Metrics, limits: Limits = LIMITS, admission: Admission | None = None
) -> dict[str, Any]:
    """Return how uvicorn is run; the servers that `bench` compares with are run in the same way."""
    connections = Connections(metrics, limits, admission or Admission())
    return {"http": partial(GatheringProtocol, connections), **_SERVER_OPTIONS}


def run(
    settings: Settings,
    limits: Limits,
    metrics_directory: Path,
    admin_listener: socket.socket | None,
    assignment: Assignment,
) -> None:
    """Serve in a worker's process, which shares its metrics in a directory."""
    with told_if_gone(metrics_directory):
        service = _build(settings, metrics_directory, assignment)
    options = server_options(service.metrics, limits, service.admission)
    config = uvicorn.Config(service, **options, **_tls(service))
    admin = AdminServer(service.admin, admin_listener, options) if admin_listener else None
    _Server(config, admin, service.serving, settings, limits, assignment).run()


class _Server(uvicorn.Server):
    """A server that beats, says how far it is, and leaves as it is told to.

    Parameters
    ----------
    config : uvicorn.Config
    admin : AdminServer, optional
        Runs beside it.
    serving : Serving
    settings : Settings
    limits : Limits
    assignment : Assignment
    """

    def __init__(
        self,
        config: uvicorn.Config,
        admin: AdminServer | None,
        serving: Serving,
        settings: Settings,
        limits: Limits,
        assignment: Assignment,
    ) -> None:
        super().__init__(config)
        self._admin = admin
        self._serving = serving
        self._limits = limits
        self._assignment = assignment
        self._listeners = [assignment.listener]
        self._drain_seconds = settings.drain_seconds
        self._drain_delay_seconds = settings.drain_delay_seconds
        self._is_leaving = False
        self._cut_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections; the parent knows so before the first one is accepted."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(RETIRE, self._retire)
        self._beating = asyncio.create_task(self._beat())
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        # A connection that it accepts before the versions are there is answered 503.
        if self._assignment.is_substitute:
            await self._serving.wait_until_ready()
        else:  # nobody else answers: what takes long is better told than waited for
            await self._serving.wait_a_little()
        if self._admin:
            await self._admin.begin()
        protocol: Any = self.config.http_protocol_class
        told = {"config": self.config, "server_state": self.server_state, "app_state": {}}
        listener = self._assignment.listener
        self._listeners += (listener.dup() for _ in range(1, _ACCEPTED_AT_ONCE))
        self.started = True  # from now on it leaves as one that serves
        self._tell_state()
        make = partial(protocol, **told)
        tls: dict[str, Any] = {}
        if self.config.ssl is not None:  # until its end nobody else looks at a connection
            tls = {"ssl": self.config.ssl, "ssl_handshake_timeout": self._limits.head_seconds}
        self.servers = [
            await self._loop.create_server(make, sock=each, backlog=BACKLOG, **tls)
            for each in self._listeners
        ]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave, and tell callers to; before it serves, there is nobody to tell."""
        if not self.started:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        delay = self._drain_delay_seconds if sig == signal.SIGTERM else 0.0
        self._loop.call_soon_threadsafe(self._leave, delay)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer what is under way, cut what takes too long, close the store."""
        listener = self._assignment.listener
        is_listening = listener.fileno() >= 0  # not when it is being replaced
        if is_listening and self._assignment.seat.host.is_draining:  # nobody is to in its place
            take_no_more(listener)
            await asyncio.sleep(_LOOK_SECONDS)  # to accept, and read, what is there
        self._stop_listening()
        await self._close_idle()
        await self._wait_until_empty()
        left = list(self.server_state.connections)
        if left:
            log.warning("requests_cut", count=len(left), after_seconds=self._drain_seconds)
        for connection in left:
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_CLOSING_SECONDS)
        if self._admin:
            self._admin.end()
        await self.lifespan.shutdown()
        self._beating.cancel()

    def _leave(self, delay: float) -> None:
        """Stop in so many seconds; if it is to already, at the earlier moment."""
        self._ask_callers_to_leave()
        # What is on its way when the signal comes is still read, and answered.
        self._loop.call_later(max(delay, _LOOK_SECONDS), setattr, self, "should_exit", True)

    def _retire(self) -> None:
        self._stop_listening()
        self._ask_callers_to_leave()
        self._retiring = self._loop.create_task(self._leave_when_empty())

    async def _leave_when_empty(self) -> None:
        await self._wait_until_empty()
        self.should_exit = True

    def _ask_callers_to_leave(self) -> None:
        """Have every answer from now on be the last of its connection."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self._assignment.set_state(WorkerState.LEAVING)
        self.config.encoded_headers.append(_CONNECTION_CLOSE)
        self.server_state.default_headers.append(_CONNECTION_CLOSE)
        for connection in self.server_state.connections:
            if isinstance(connection, GatheringProtocol) and connection.cycle is not None:
                connection.cycle.keep_alive = False

    def _stop_listening(self) -> None:
        for server in self.servers:
            server.close()
        for listener in self._listeners:
            listener.close()
        if self._admin:
            self._admin.stop_listening()

    async def _close_idle(self) -> None:
        """Close connections without a request; the first one of a new connection is waited for."""
        patience = self._loop.time() + _FIRST_REQUEST_SECONDS
        while True:
            connections = cast("list[GatheringProtocol]", list(self.server_state.connections))
            is_over = self._loop.time() >= patience
            for connection in connections:
                if connection.has_asked or is_over:
                    connection.shutdown()
            if is_over or all(connection.has_asked for connection in connections):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _wait_until_empty(self) -> None:
        """Wait until no connection is left, or for as long as requests have from the first time."""
        if self._cut_at is None:
            self._cut_at = self._loop.time() + self._drain_seconds
        while self.server_state.connections and self._loop.time() < self._cut_at:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    async def _beat(self) -> None:
        """Beat, and keep the state that the other workers and the parent see."""
        while True:
            self._assignment.seat.beat()
            if self.started and not self._is_leaving:
                self._tell_state()
            await asyncio.sleep(_LOOK_SECONDS)

    def _tell_state(self) -> None:
        is_ready = self._serving.is_ready()
        self._assignment.set_state(WorkerState.READY if is_ready else WorkerState.UNREADY)


def _tls(service: Service) -> dict[str, Any]:
    """Return what else uvicorn is told where it speaks TLS."""
    if service.tls is None:
        return {}
    context = context_of(service.tls)
    return {"ssl_context_factory": lambda *_: context}


def _build(settings: Settings, metrics_directory: Path, assignment: Assignment) -> Service:
    library()
    reader = open_reader(
        settings.store_url,
        settings.namespace,
        mirror_dir=settings.mirror_dir,
        timeout_ms=settings.store_timeout_ms,
    )
    service = Service(settings, reader, metrics_directory, assignment.seat.host)
    # What is there now stays: no later collection walks through it (169,000 objects, 36 to 71 ms).
    gc.collect()
    gc.freeze()
    keep_freed_memory()
    return service
