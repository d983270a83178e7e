"""Whether this host is to be sent requests: what is wrong with it, not with what all hosts share.

A load balancer takes out the hosts that are not ready. A store that is away is away for all of
them, and a fleet that is taken out as a whole helps nobody.
"""

from __future__ import annotations

from typing import Final

from gkc.answering.serving import Serving
from gkc.errors import ServiceNotReadyError
from gkc.http.host import Host
from gkc.http.schemas import Health, StoreOutage

_OUTAGE_SECONDS: Final = 5.0
"""How long the store may be away where readiness needs it."""


class Readiness:
    """What ``GET /readyz`` tells.

    Parameters
    ----------
    serving : Serving
    host : Host or None
        What the workers know of each other; None: there is no other.
    needs_store : bool
        Whether a store that is away makes a host unready.
    """

    def __init__(self, serving: Serving, host: Host | None, *, needs_store: bool) -> None:
        self._serving = serving
        self._host = host
        self._needs_store = needs_store

    def check_alive(self) -> None:
        """Check that no worker's event loop stands still; raises ServiceNotReadyError."""
        if self._host is not None:
            self._host.check_alive()

    def health(self) -> Health:
        """Return how this host is, if it is ready.

        Raises
        ------
        ServiceNotReadyError, CatalogueLostError
            If it is not; says why.
        """
        if self._host is not None:
            self._host.check_stays()
        self._serving.check_ready()
        if self._host is not None:
            self._host.check_ready()
        outage = self._serving.outage()
        if outage is None:
            return Health("ready")
        if self._needs_store and outage.seconds >= _OUTAGE_SECONDS:
            raise ServiceNotReadyError(f"for {outage.seconds:.0f} s now, {outage.cause}")
        since = round(outage.seconds, 1)
        return Health("degraded", StoreOutage(outage.is_reachable, since, outage.cause))
