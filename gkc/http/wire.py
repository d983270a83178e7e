"""uvicorn's HTTP/1.1 protocol, made to write in one go, and to have limits.

What is written in one turn of the event loop is sent together (`gkc.http.transport`). uvicorn takes
an answer's head and each piece of its body as a message of ASGI each, and looks at each header with
two regular expressions; one that is there as a whole is written by one call instead (`WHOLE`).

What is no HTTP at all, or more than `gkc.http.limits` allows, is refused before any application
sees it: as a problem, like all else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from random import choice, uniform
from time import monotonic
from typing import Any, Final

import httptools
import structlog
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from gkc.errors import (
    HeadTooLargeError,
    OverloadedError,
    RequestError,
    SlowReaderError,
    SlowRequestError,
    UrlTooLongError,
)
from gkc.http.access import CALLER
from gkc.http.admission import LIGHT_BYTES, Verdict
from gkc.http.asgi import BODY, WHOLE, headers, size_of
from gkc.http.connections import Connections
from gkc.http.deadlines import ARRIVED
from gkc.http.middleware import TURN, request_id_of
from gkc.http.plain_http import PlainHttpProtocol, UnservedError
from gkc.http.problems import Problem, problem_of, problem_of_status, written
from gkc.http.tls import name_of
from gkc.http.transport import GatheringTransport
from gkc.problem import KINDS

_PAUSE_SECONDS: Final = 0.05, 0.15
"""At random, so that those who were paused together do not come back together."""
_CHUNKED_BYTES: Final = LIGHT_BYTES + 1
"""What a body is taken for that does not say how long it is: no light one."""
_CLOSE: Final = b"connection: close\r\n"
_ALWAYS_BEGUN: Final = frozenset({"/livez", "/readyz", "/metrics"})

log = structlog.get_logger(__name__)


class _Phase(Enum):
    """How far the newest request of a connection has come."""

    READ = auto()
    """It is here as a whole, or there was none yet."""
    HEAD = auto()
    BODY = auto()
    REFUSED = auto()
    """Nothing more is read here."""


_Wait = tuple[float, int, Callable[[], None]]
"""For how long a caller may keep us waiting, how far it is, and what comes if it stays there."""


class GatheringProtocol(PlainHttpProtocol):
    """What ``gkc serve`` gives uvicorn as its ``http`` protocol, behind its connections.

    Parameters
    ----------
    connections : Connections
    config, server_state, app_state, _loop : object
        As uvicorn gives them.
    """

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._connections = connections
        self._limits = connections.limits
        self._phase = _Phase.READ
        self._requests = 0
        self._received = self._received_before = self._head_start = 0
        self._body_bytes = 0
        self._seen = (0, 0, 0, 0)
        self._caller: str | None = None
        self._unseen_bytes = 0
        self._answering: tuple[RequestResponseCycle, asyncio.Task[None]] | None = None
        self._is_paused = False
        self._farewell: Callable[[], None] | None = None
        self._wait: _Wait | None = None
        self._waits_since = self._idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
        self._caller = name_of(transport.get_extra_info("peercert"))
        self._idle_since = self.loop.time()
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and drop what is still done for its caller."""
        self._connections.remove(self)
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._answering:
            cycle, task = self._answering
            cycle.disconnected = True  # uvicorn knows the newest request alone
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes of requests; a head that asks for another protocol is read without that."""
        if self._phase is _Phase.REFUSED:
            return
        self._received_before = self._received
        self._received += len(data)
        try:
            self.feed(data)
            if self._phase is not _Phase.READ:
                self._check_unfinished(len(data))
        except (httptools.HttpParserError, RequestError) as exc:
            self._refuse_what_raised(exc)

    def shutdown(self) -> None:
        """Close the connection after the request that is under way, be it only begun."""
        if self._phase is not _Phase.HEAD:
            super().shutdown()

    # ---- called by the parser

    def on_message_begin(self) -> None:
        """Begin a request, unless too many wait for their answers here: each takes memory."""
        is_over = self._phase is _Phase.REFUSED  # the one before was the last of this connection
        if is_over or len(self.pipeline) >= self._limits.requests_ahead:
            raise OverloadedError
        super().on_message_begin()
        if self._caller is not None:
            self.scope[CALLER] = self._caller  # type: ignore[typeddict-unknown-key]
        self._phase = _Phase.HEAD
        self._requests += 1
        self._head_start = self._received_before

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is too large, or too much is under way."""
        self._check_head()
        self.check_served()
        is_next = self.cycle is None or self.cycle.response_complete
        if (
            is_next
            and not self.parser.should_upgrade()
            and not self._may_begin(self._path(), self.scope)
        ):
            self.cycle = _REFUSED  # one for all: to make one costs as much as the refusal
            method, keeps_alive = self.parser.get_method(), self.parser.should_keep_alive()
            self._refuse_overloaded(self.scope, method, keeps_alive=keeps_alive)
        else:
            self.scope[ARRIVED] = monotonic()  # type: ignore[typeddict-unknown-key]
            super().on_headers_complete()
        if self._phase is not _Phase.REFUSED:
            self._phase = _Phase.BODY
        self.headers = [*self.headers]  # what follows the body is no header of the application's

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        if self._phase is not _Phase.REFUSED:
            self._phase = _Phase.READ
        super().on_message_complete()
        if not self.pipeline and self.flow.read_paused:
            self.flow.resume_reading()  # else nobody would notice if the caller hung up

    def on_response_complete(self) -> None:
        """Go on with the next request; as uvicorn does, but without a timer a request."""
        self.transport.send()  # type: ignore[attr-defined]  # before the loop's next turn
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        while self.pipeline:
            cycle, app = self.pipeline.pop()
            if self._may_begin(cycle.scope["path"], cycle.scope, is_next=True):
                self._start_asgi_task(cycle, app)
                return
            cycle.response_started = cycle.response_complete = True  # of its body nothing is kept
            method = cycle.scope["method"].encode()
            self._refuse_overloaded(cycle.scope, method, keeps_alive=cycle.keep_alive)
        if self._farewell is not None:
            self._farewell()

    # ---- overload

    def _path(self) -> str:
        target = self.url if self.url.startswith(b"/") else httptools.parse_url(self.url).path
        return target.partition(b"?")[0].decode("latin-1")

    def _may_begin(self, path: str, scope: HTTPScope, *, is_next: bool = False) -> bool:
        """Tell whether to answer a request, now or in its turn; if not, it counts as refused."""
        given = headers(scope)  # type: ignore[arg-type]
        is_chunked = b"transfer-encoding" in given
        size = _CHUNKED_BYTES if is_chunked else size_of(given.get(b"content-length", b""))
        connections = self._connections
        if path in _ALWAYS_BEGUN:
            return True
        verdict = connections.admission.judge(size, len(self.tasks), is_next=is_next)
        if verdict is Verdict.REFUSE:
            connections.metrics.tally.refuse(path)
            return False
        if verdict is Verdict.WAIT:
            scope[TURN] = connections.admission.turn(size)  # type: ignore[typeddict-unknown-key]
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to answer a request; as uvicorn does, and known to this connection."""
        # Not bound to the cycle, whose own scope it is: only the collector could free them.
        cycle.scope[WHOLE] = self._write_whole  # type: ignore[typeddict-unknown-key]
        cycle.scope[BODY] = self._take_body  # type: ignore[typeddict-unknown-key]
        task = self.loop.create_task(cycle.run_asgi(self._answer))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        self._answering = cycle, task

    def _refuse_overloaded(self, scope: HTTPScope, method: bytes, *, keeps_alive: bool) -> None:
        """Refuse a request at once."""
        is_last = not keeps_alive or self._default_head()[1]
        if is_last:
            self._phase = _Phase.REFUSED
            self.pipeline.clear()
            self._farewell = None
        head, body = choice(_OVERLOADED)
        if method == b"HEAD":
            body = b""
        self._write_problem((head, body), scope["headers"], is_last=is_last)
        if self._connections.admission.is_flooded and not is_last:
            self._pause()

    def _pause(self) -> None:
        """Leave what this caller sends where it is for a moment: what he asked for is refused."""
        if not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
            self.loop.call_later(uniform(*_PAUSE_SECONDS), self._read_again)

    def _read_again(self) -> None:
        self._is_paused = False
        if not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    async def _answer(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            if self._answering and not self._answering[0].disconnected:
                raise

    def _take_body(self) -> bytes | None:
        """Return the body of the request that is answered; None if there is more to come of it."""
        assert self._answering is not None
        cycle, _ = self._answering
        if cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = cycle.body, bytearray()
        return bytes(body)

    def _write_whole(self, status: int, head: bytes, pieces: Sequence[bytes | memoryview]) -> bool:
        """Write a whole answer, if the caller takes what is written; tell whether it does."""
        assert self._answering is not None
        cycle, _ = self._answering
        if self.flow.write_paused or cycle.disconnected:
            return False
        default_head, ends_connection = self._default_head()
        if ends_connection:  # this worker is about to leave
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            default_head += _CLOSE
        head = b"%b%b%b\r\n" % (STATUS_LINE[status], default_head, head)
        self.transport.send(head, *(() if cycle.scope["method"] == "HEAD" else pieces))  # type: ignore[attr-defined]
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _default_head(self) -> tuple[bytes, bool]:
        return self._connections.default_head(self.server_state.default_headers)

    # ---- limits

    def _check_unfinished(self, size: int) -> None:
        """Look at a request that the bytes just read, so many, did not finish.

        The parser keeps a name or value until it ends, and counts no framing of chunks: what it
        has told nothing of is counted here.
        """
        seen = (self._requests, len(self.url), len(self.headers), self._body_bytes)
        self._unseen_bytes = self._unseen_bytes + size if seen == self._seen else 0
        self._seen = seen
        self._check_head(self._unseen_bytes)

    def _check_head(self, unseen_bytes: int = 0) -> None:
        limits = self._limits
        if len(self.url) > limits.url_bytes:
            raise UrlTooLongError(limits.url_bytes)
        if len(self.headers) > limits.headers:
            raise HeadTooLargeError(f"{limits.headers} headers")
        if self._received - self._head_start > limits.head_bytes:  # else it cannot be larger
            size = unseen_bytes + len(self.url)
            size += sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limits.head_bytes:
                raise HeadTooLargeError(f"{limits.head_bytes} bytes")

    @property
    def has_asked(self) -> bool:
        """Whether there was a request."""
        return self._requests > 0

    @property
    def unsent_bytes(self) -> int:
        """What the caller has not taken yet of its answer."""
        begun: int = self.transport.get_write_buffer_size()
        return begun + (self.cycle.expected_content_length if self.cycle else 0)

    @property
    def idle_since(self) -> float | None:
        """When its last request was answered, or it was made; None unless it is idle."""
        is_idle = self._phase is _Phase.READ and (
            self.cycle is None or self.cycle.response_complete
        )
        return self._idle_since if is_idle and not self.transport.is_closing() else None

    def look(self, now: float) -> None:
        """End the connection if its caller keeps us waiting for too long."""
        wait = self._waits()
        if wait is None or wait != self._wait:
            self._wait = wait
            self._waits_since = now
        elif now - self._waits_since >= wait[0]:
            wait[2]()

    def _waits(self) -> _Wait | None:
        """Return what we wait for, if it is the caller."""
        limits = self._limits
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            return limits.write_seconds, unsent, self._cut_off
        if self._phase in (_Phase.HEAD, _Phase.BODY):
            if self.flow.read_paused:
                return None
            if self._phase is _Phase.HEAD:
                return limits.head_seconds, self._requests, self._refuse_slow_head
            # Of a body that was answered before it was read, the rest has so long as a whole.
            progress = 0 if self.cycle.response_complete else self._body_bytes
            return limits.body_seconds, progress, self._refuse_slow_body
        if self.cycle and not self.cycle.response_complete and not self.cycle.disconnected:
            return None
        if self._phase is _Phase.REFUSED:
            return limits.linger_seconds, 0, self._abort
        return limits.idle_seconds, self._requests, self.close

    def close(self) -> None:
        """End the connection once what is written has left."""
        self.transport.close()

    def _abort(self) -> None:
        self.transport.abort()

    def _cut_off(self) -> None:
        self._connections.metrics.reject(SlowReaderError(self._limits.write_seconds))
        self._abort()

    def _refuse_slow_head(self) -> None:
        self._refuse_excess(SlowRequestError("no whole head", self._limits.head_seconds))

    def _refuse_slow_body(self) -> None:
        self._refuse_excess(SlowRequestError("nothing more of the body", self._limits.body_seconds))

    def _refuse_what_raised(self, exc: Exception) -> None:
        if self._phase is _Phase.REFUSED:
            return  # it is about what follows the last request of this connection
        cause = exc.__context__ if isinstance(exc, httptools.HttpParserCallbackError) else exc
        if isinstance(cause, RequestError | OverloadedError):
            self._refuse_excess(cause)
        elif isinstance(cause, UnservedError):
            self._refuse_bad(*cause.args)
        elif cause is exc:
            self._refuse_bad(f"the request is not well-formed HTTP/1.1: {exc}", str(exc))
        else:
            target = repr(self.url.decode("latin-1"))
            detail = f"the request's target {target} is no path, nor a URL with one"
            self._refuse_bad(detail, "its target is no path")

    def _refuse_excess(self, error: RequestError | OverloadedError) -> None:
        self._connections.metrics.reject(error)
        self._refuse(problem_of(error))

    def _refuse_bad(self, detail: str, cause: str) -> None:
        log.warning("request_malformed", cause=cause)  # not the target, which may be anything
        self._refuse(problem_of_status(HTTPStatus.BAD_REQUEST, detail, {}))

    def _refuse(self, problem: Problem) -> None:
        """Read nothing more; tell why, behind the answers to earlier requests; then end."""
        phase, self._phase = self._phase, _Phase.REFUSED
        self.flow.resume_reading()
        asked = self.headers if phase is not _Phase.READ else []
        tell = partial(self._write_problem, written(problem), asked, is_last=True)
        is_begun = phase is _Phase.BODY
        if is_begun and self.pipeline:  # it is the newest of those that wait for their turn
            self.pipeline.popleft()
            assert self._answering is not None
            self.cycle = self.pipeline[0][0] if self.pipeline else self._answering[0]
            is_begun = False
        cycle = self.cycle
        if is_begun:
            cycle.disconnected = True  # for whoever waits for the body
            cycle.message_event.set()
        if is_begun and cycle.response_started:
            self.transport.write_eof()
        elif is_begun or cycle is None or cycle.response_complete:
            tell()
        else:
            self._farewell = tell

    def _write_problem(
        self, written: tuple[bytes, bytes], asked: Iterable[tuple[bytes, bytes]], *, is_last: bool
    ) -> None:
        """Answer a request that had these headers."""
        head, body = written
        request_id = request_id_of(dict(asked).get(b"x-request-id", b""))
        default_head, ends_connection = self._default_head()
        if is_last and not ends_connection:
            default_head += _CLOSE
        line = b"x-request-id: %b\r\n" % request_id.encode("latin-1")
        self.transport.write(b"%b%b%b\r\n%b" % (head, default_head, line, body))
        if is_last:
            # Closed now, with bytes that nobody read, the system would throw the answer away.
            self.transport.write_eof()


_OVERLOADED: Final = [
    written(replace(problem_of(OverloadedError()), headers={"retry-after": str(seconds)}))
    for seconds in KINDS[OverloadedError].retry_after_seconds
]


def _refused_cycle() -> RequestResponseCycle:
    """Return what stands for a request that is refused: its answer is complete."""
    nothing: Any = None
    cycle = RequestResponseCycle(
        scope=nothing,
        transport=nothing,
        flow=nothing,
        logger=nothing,
        access_logger=nothing,
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    cycle.response_started = cycle.response_complete = True
    return cycle


_REFUSED: Final = _refused_cycle()
