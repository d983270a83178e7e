"""The right to write one version of a Redis store: a key that expires unless it is renewed."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import redis
import structlog
from redis.connection import ConnectionPool

from gkc.errors import LeaseLostError, VersionBusyError
from gkc.store.backends.redis.client import is_wrong_type, wrong_type

log = structlog.get_logger(__name__)

LEASE_TTL_SECONDS: Final = 10.0
_RENEWAL_SECONDS: Final = 2.0

_TAKE: Final = """#!lua flags=allow-oom
local held = redis.call('GET', KEYS[1])
if held == false or held == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return false
end
return held
"""
"""Take the lease if it is free or still the dead holder's; else return its value."""

_IF_OURS: Final = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call(%s)
end
return 0
"""
_RENEW: Final = _IF_OURS % "'PEXPIRE', KEYS[1], ARGV[2]"
_RELEASE: Final = _IF_OURS % "'DEL', KEYS[1]"


class RedisLease:
    """The lease of one version, renewed by a thread until it is released (a ``Lease``).

    Parameters
    ----------
    pool : ConnectionPool
        Where the thread's own connection comes from.
    key : str
    version, holder : str
        Which version, and who takes the lease, for people.
    ttl_seconds : float
        How long a holder that is not heard of keeps the lease.

    Raises
    ------
    VersionBusyError
        If a living writer holds it.
    redis.RedisError
        If the server cannot be asked.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        key: str,
        version: str,
        holder: str,
        ttl_seconds: float = LEASE_TTL_SECONDS,
    ) -> None:
        self.token = secrets.token_hex(8)
        self._client = redis.Redis(connection_pool=pool)
        self._key = key
        self._version = version
        self._ttl_seconds = ttl_seconds
        self._ttl_ms = round(ttl_seconds * 1000)
        value = {"token": self.token, "holder": holder, "process": process_identity(os.getpid())}
        self._value = json.dumps(value, sort_keys=True)
        self._renewed_at = self._take()
        self._is_lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{version}", daemon=True)
        self._thread.start()

    def check(self, generation: str) -> None:
        """Raise LeaseLostError if the lease may have passed to another writer."""
        if time.monotonic() - self._renewed_at >= self._ttl_seconds:
            self._is_lost = True
        if self._is_lost or self._released.is_set():
            raise LeaseLostError(self._version, generation)

    def release(self) -> None:
        """Give the lease back; calling it again does nothing."""
        if self._released.is_set():
            return
        self._released.set()
        self._thread.join()
        try:
            self._client.eval(_RELEASE, 1, self._key, self._value)
        except (redis.RedisError, OSError) as exc:
            # Nothing is lost by it: the lease ends by itself, and this may run after an error.
            log.warning("lease_not_released", version=self._version, reason=str(exc))

    def _take(self) -> float:
        """Take the lease, from a holder that is known to be dead if need be; return when."""
        expected = b""
        while True:
            now = time.monotonic()
            try:
                held: Any = self._client.eval(
                    _TAKE, 1, self._key, expected, self._value, str(self._ttl_ms)
                )
            except redis.ResponseError as exc:
                if not is_wrong_type(exc):
                    raise
                raise wrong_type(self._client, self._key) from exc
            if held is None:
                return now
            holder, is_dead = _holder_of(held)
            if not is_dead:
                raise VersionBusyError(self._version, holder)
            log.info("lease_of_the_dead_taken", version=self._version, holder=holder)
            expected = held

    def _keep(self) -> None:
        """Renew the lease until it is released or lost; runs in a thread."""
        pause = min(_RENEWAL_SECONDS, self._ttl_seconds / 5)
        while not self._released.wait(pause) and not self._is_lost:
            now = time.monotonic()
            try:
                renewed = self._client.eval(_RENEW, 1, self._key, self._value, str(self._ttl_ms))
            except (redis.RedisError, OSError) as exc:
                log.warning("lease_not_renewed", version=self._version, reason=str(exc))
                continue  # `check` decides by the time since the last renewal
            if renewed:
                self._renewed_at = now
            else:
                self._is_lost = True


def process_identity(pid: int) -> dict[str, Any] | None:
    """Return what tells one process of this boot from all others, None where nothing does.

    Parameters
    ----------
    pid : int
        A process that this one can see.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        state, started = _process_state(pid)
    except (OSError, ValueError, IndexError):
        return None
    if state in ("Z", "X"):
        return None
    return {
        "host": socket.gethostname(),
        "boot": boot,
        "namespace": str(namespace),
        "pid": pid,
        "started": started,
    }


def _process_state(pid: int) -> tuple[str, str]:
    """Return the state of a process and when it started, in clock ticks since boot."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], fields[19]


def _holder_of(value: bytes) -> tuple[str, bool]:
    """Return who holds a lease of this value, and whether that process is known to be dead."""
    try:
        lease = json.loads(value)
        holder, theirs = str(lease["holder"]), lease["process"]
    except (ValueError, KeyError, TypeError):
        return "an unknown writer", False
    ours = process_identity(os.getpid())
    where = ("host", "boot", "namespace")
    if not theirs or not ours or any(theirs.get(name) != ours[name] for name in where):
        return holder, False  # somewhere where we cannot look
    return holder, process_identity(int(theirs["pid"])) != theirs
