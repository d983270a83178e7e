"""One request, until an attempt brings its answer: retries, hedges and the deadline. Nothing waits.

Whoever runs it (`gkc.client.service`) begins, waits until a connection is ready or `wake_at` is
there, calls `advance` or `tick`, and ends when there is an `outcome`.
"""

from __future__ import annotations

import math
import os
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from threading import Lock
from time import monotonic
from typing import Final

from gkc.client.options import AttemptKind, AttemptReport, Options
from gkc.client.service_address import Address, Addresses
from gkc.client.service_connection import Connection, Response, Steps
from gkc.client.service_messages import Request, retry_after_seconds
from gkc.errors import DeadlineExceededError, GkcError, ServiceError

_SHARE_OF_REQUESTS: Final = 0.1
_MOST_SAVED: Final = 10.0
_PAUSE_SECONDS: Final = 0.02
_NEVER: Final = math.inf


class Budget:
    """Retries and hedges together are a tenth of the requests: more would make an outage worse.

    Each request earns a tenth of one, at most 10 are saved, and a fresh client has these.
    """

    def __init__(self) -> None:
        self._saved = _MOST_SAVED
        self._lock = Lock()

    def earn(self) -> None:
        """Count a request."""
        with self._lock:
            self._saved = min(self._saved + _SHARE_OF_REQUESTS, _MOST_SAVED)

    def take(self) -> bool:
        """Take one attempt more, if there is one."""
        with self._lock:
            # Ten tenths are a whole one, whatever their sum in binary.
            if self._saved < 1.0 - 1e-9:
                return False
            self._saved -= 1.0
            return True


class Service:
    """What all requests of one client in one process share."""

    def __init__(self, options: Options) -> None:
        self.addresses = Addresses(options.urls)
        self.options = options
        self.budget = Budget()
        self.process = os.getpid()
        self.is_closed = False
        is_tls = any(address.is_tls for address in self.addresses.all)
        self._tls = ssl.create_default_context() if is_tls else None

    def connection(self, address: Address) -> Connection:
        """Return an idle connection, or a new one, for a request that is under way from now on."""
        connection = address.take_idle()
        if connection is None:
            connection = Connection(address, self._tls if address.is_tls else None)
        address.under_way.add(connection)
        return connection

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        if self.is_closed:
            connection.close()
        else:
            connection.address.keep(connection)

    def close(self) -> None:
        """Close what is idle; what is under way is closed once it is over."""
        self.is_closed = True
        for address in self.addresses.all:
            address.close()

    def anew(self) -> Service:
        """Return what a child opens after a fork; what it inherited says no word to the service."""
        self.close()
        return Service(self.options)


@dataclass(slots=True, eq=False)
class Attempt:
    """One try at one address.

    Attributes
    ----------
    is_reused : bool
        Whether the connection was open before.
    awaits : int
        What the connection waits for.
    """

    connection: Connection
    steps: Steps[Response]
    kind: AttemptKind
    began: float
    is_reused: bool
    awaits: int = 0


class Asking:
    """One request and its attempts.

    Parameters
    ----------
    service : Service
    request : Request
    deadline : float
        By the monotonic clock, in seconds.
    at : Address, optional
        Who is asked first; else who has least to do.

    Attributes
    ----------
    running : list of Attempt
    outcome : Response or GkcError, optional
    """

    def __init__(
        self, service: Service, request: Request, deadline: float, at: Address | None = None
    ) -> None:
        self.running: list[Attempt] = []
        self.outcome: Response | GkcError | None = None
        self._service = service
        self._request = request
        self._deadline = deadline
        self._at = at
        self._retries_left = service.options.retries
        self._tried: list[Address] = []
        self._retry_at = self._hedge_at = _NEVER

    @property
    def wake_at(self) -> float:
        """When `tick` has something to do."""
        return min(self._deadline, self._retry_at, self._hedge_at)

    def begin(self) -> None:
        """Begin the first attempt."""
        self._service.budget.earn()
        if monotonic() < self._deadline:
            self._begin("first", self._at)
        else:  # earlier pieces took all the time
            self._time_is_up(self._service.addresses.all[0])

    def advance(self, attempt: Attempt) -> None:
        """Go on with an attempt whose connection is ready."""
        try:
            attempt.awaits = attempt.steps.send(None)
        except StopIteration as done:
            self._answered(attempt, done.value)
        except (OSError, ServiceError) as error:
            self._failed(attempt, error)

    def tick(self) -> None:
        """Do what it is time for."""
        now = monotonic()
        if now >= self._deadline:
            self._time_is_up(self._tried[-1])
        elif now >= self._retry_at:
            self._retry_at = _NEVER
            self._begin("retry")
        elif now >= self._hedge_at:
            self._hedge_at = _NEVER
            if self._service.budget.take():
                self._begin("hedge")

    def result(self) -> Response:
        """Return the answer.

        Raises
        ------
        DeadlineExceededError, ServiceError
            If there is none.
        """
        assert self.outcome is not None
        if isinstance(self.outcome, GkcError):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        """Close the connections of attempts that are still under way."""
        for attempt in tuple(self.running):
            self._end(attempt, "abandoned", stays_open=False)

    def _begin(self, kind: AttemptKind, at: Address | None = None) -> None:
        options = self._service.options
        address = at or self._service.addresses.choose(self._tried)
        self._tried.append(address)
        now = monotonic()
        connection = self._service.connection(address)
        left = self._deadline - now
        sent = self._request.to(address.host_header, address.prefix, left, options.api_key)
        attempt = Attempt(
            connection, connection.exchange(sent), kind, now, is_reused=connection.is_open
        )
        self.running.append(attempt)
        if options.hedge_after is not None and kind != "hedge":
            self._hedge_at = now + options.hedge_after
        self.advance(attempt)

    def _answered(self, attempt: Attempt, response: Response) -> None:
        self._end(attempt, response.status, stays_open=attempt.connection.stays_open)
        pause = None
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
            pause = retry_after_seconds(response)
        if pause is None:
            self._conclude(response)
        else:
            attempt.connection.address.leave_out(pause)
            self._retry_or_conclude(pause, response)

    def _failed(self, attempt: Attempt, error: OSError | ServiceError) -> None:
        address, has_answered = attempt.connection.address, attempt.connection.has_answered
        was_closed_idle = attempt.is_reused and not has_answered
        if not was_closed_idle:
            address.failed()
        self._end(attempt, type(error).__name__, stays_open=False)
        # Asking again is safe: every request only reads.
        pause = _NEVER
        if isinstance(error, ServiceError):
            told = error
        else:
            is_distrusted = isinstance(error, ssl.SSLCertVerificationError)
            remedy = "; name an authority of your own by SSL_CERT_FILE" if is_distrusted else ""
            told = ServiceError(
                address.url, f"cannot be reached: {error.strerror or error}{remedy}"
            )
            told.__cause__ = error
            if not has_answered and not is_distrusted:
                used = self._service.options.retries - self._retries_left
                pause = _PAUSE_SECONDS * (2**used - 1)
        # Closing what is idle is no outage: the first time it costs nothing to ask again.
        self._retry_or_conclude(pause, told, is_free=was_closed_idle and attempt.kind == "first")

    def _retry_or_conclude(
        self, pause: float, outcome: Response | GkcError, *, is_free: bool = False
    ) -> None:
        """Ask again after a pause, at another address at once; else that was it."""
        if self.running:  # a hedge, or what was hedged
            return
        if pause < _NEVER and self._service.addresses.has_other(self._tried):
            pause = 0.0
        at = monotonic() + pause
        may_retry = self._retries_left and at < self._deadline
        if may_retry and (is_free or self._service.budget.take()):
            self._retries_left -= 1
            self._retry_at = at
            self._hedge_at = _NEVER
        else:
            self._conclude(outcome)

    def _conclude(self, outcome: Response | GkcError) -> None:
        self.outcome = outcome
        self.close()

    def _time_is_up(self, address: Address) -> None:
        for attempt in tuple(self.running):
            attempt.connection.address.failed()
            self._end(attempt, DeadlineExceededError.__name__, stays_open=False)
        self.outcome = DeadlineExceededError(address.url, self._service.options.timeout)

    def _end(self, attempt: Attempt, outcome: int | str, *, stays_open: bool) -> None:
        self.running.remove(attempt)
        connection, options = attempt.connection, self._service.options
        connection.address.under_way.discard(connection)
        attempt.steps.close()
        if stays_open:
            self._service.keep(connection)
        else:
            connection.close()
        if options.on_request is not None:
            seconds = monotonic() - attempt.began
            url = connection.address.url
            options.on_request(
                AttemptReport(url, seconds, outcome, self._request.rows, attempt.kind)
            )
