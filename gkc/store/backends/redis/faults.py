"""What goes wrong with a Redis server, in words of its user: the situation, and what to do."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeVar

import redis

from gkc.errors import StoreFullError, StoreUnavailableError

_E = TypeVar("_E", bound=BaseException)


class _Fault(NamedTuple):
    cause: str
    remedy: str


@contextmanager
def as_store_errors(store: str) -> Iterator[None]:
    """Turn what the client library raises into StoreUnavailableError, which says what to do."""
    try:
        yield
    except (redis.RedisError, OSError) as exc:
        raise unavailable(exc, store) from exc


def unavailable(exc: BaseException, store: str) -> StoreUnavailableError:
    """Return the error that says what is wrong and what to do; never with a secret.

    Parameters
    ----------
    exc : BaseException
        What the client library raised.
    store : str
        The store's URL without secrets.
    """
    text = " ".join(str(exc).split()).rstrip(".")
    fault = _of_answer(exc, text) or _of_connection(exc, text, store)
    if fault is None:
        fault = _Fault(text or type(exc).__name__, "see the server's log")
    is_full = fault == _OF_CODES["OOM"]
    return (StoreFullError if is_full else StoreUnavailableError)(store, *fault)


def _of_answer(exc: BaseException, text: str) -> _Fault | None:
    """Look up what the server itself says."""
    code = getattr(exc, "status_code", None)
    fault = _OF_CODES.get(code) if code else None
    if fault is None:  # some servers put a script's error, code and all, into a text of their own
        fault = next((f for name, f in _OF_CODES.items() if f"-{name} " in text), None)
    if fault is None:
        fault = next((f for words, f in _OF_WORDS.items() if words in text), None)
    # What an unknown command was given may be a value of ours: it is not repeated.
    said = text.partition(", with args")[0]
    return _Fault(fault.cause.format(said), fault.remedy) if fault else None


def _of_connection(exc: BaseException, text: str, store: str) -> _Fault | None:
    """Find out why there is no connection, or none that speaks our protocol."""
    if tls := _find_cause(exc, ssl.SSLError):
        return _of_tls(tls)
    if isinstance(exc, redis.TimeoutError):
        remedy = "check the host and port in the URL, the network, and what keeps the server busy"
        if store.startswith("rediss:"):
            remedy = "does this port speak TLS? if not, use redis://; if so, check the network"
        return _Fault(f"it did not answer in time ({text})", remedy)
    if refusal := _find_cause(exc, OSError):
        if refusal.errno not in _BROKEN:
            return _of_refusal(refusal, is_socket=store.startswith("unix:"))
        text = os.strerror(refusal.errno)
    elif "protocol" in text.lower():
        return _Fault(f"it is no Redis server ({text})", "check the host and port in the URL")
    elif "closed by server" in text:
        text = text.partition(":")[0]
    else:
        return None
    remedy = "see the server's log"
    if store.startswith("redis:"):
        remedy = (
            "if the port speaks TLS, use rediss://; else check that a Redis server runs there and "
            "lets us in: protected mode, a firewall"
        )
    return _Fault(f"the connection was cut ({text})", remedy)


def _of_tls(exc: ssl.SSLError) -> _Fault:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _Fault(
            f"TLS failed ({exc.verify_message})",
            "name the file of its authority by ssl_ca_certs in the URL, and the host as its "
            "certificate does",
        )
    if exc.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
        return _Fault(
            f"TLS failed ({exc.reason}): this port does not speak it",
            "use redis:// or the port of TLS",
        )
    return _Fault(
        f"TLS failed ({exc.reason or exc.strerror or exc})",
        "check ssl_ca_certs, ssl_certfile and ssl_keyfile in the URL: each a PEM file, and what "
        "the server asks for",
    )


def _of_refusal(exc: OSError, *, is_socket: bool) -> _Fault:
    if isinstance(exc, socket.gaierror):
        return _Fault(
            f"cannot connect: its host is not found ({exc.strerror})",
            "check the host in the URL, and this machine's name service",
        )
    # An event loop words these itself; the number says it plainly.
    why = os.strerror(exc.errno) if exc.errno else str(exc)
    if is_socket:
        remedy = "check that it runs, that this is its socket, and that this user may open it"
    else:
        remedy = "start it, or mend the host and port in the URL"
    return _Fault(f"cannot connect: {why}", remedy)


def _find_cause(exc: BaseException | None, kind: type[_E]) -> _E | None:
    while exc is not None:
        if isinstance(exc, kind):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None


_BROKEN: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})
SEVERAL_NODES: Final = _Fault(
    "this server is a node of a Redis Cluster of several nodes, which redis://, rediss:// and "
    "unix:// do not support yet",
    "use a server that is not in cluster mode, or a cluster of one node",
)
_NO_PASSWORD: Final = _Fault(
    "it has no password set, but the URL gives one",
    "take it out of the URL, or set it on the server",
)
_OF_CODES: Final = {
    "NOAUTH": _Fault(
        "it asks for a password",
        "give one in the URL, percent-encoded: redis://USER:PASSWORD@HOST:PORT/DB",
    ),
    "WRONGPASS": _Fault(
        "it refuses the user name or the password ({})",
        "mend them in the URL; there they are percent-encoded",
    ),
    "NOPERM": _Fault(
        "its user may not do this ({})", "grant it by ACL SETUSER, see docs/operations.md"
    ),
    "LOADING": _Fault("it is still loading its data from disk", "try again shortly"),
    "MASTERDOWN": _Fault(
        "it is a replica without its primary ({})", "name the primary, or wait until it is back"
    ),
    "READONLY": _Fault("it is a read-only replica", "name the primary in the URL"),
    "OOM": _Fault("it is out of memory (OOM)", "raise its maxmemory or delete versions"),
    "MOVED": SEVERAL_NODES,
    "ASK": SEVERAL_NODES,
    "CROSSSLOT": SEVERAL_NODES,
    "TRYAGAIN": SEVERAL_NODES,
    "CLUSTERDOWN": _Fault(
        "it is a node of a Redis Cluster that is down ({})",
        "use a server that is not in cluster mode, or have one node serve all its hash slots",
    ),
}
_OF_WORDS: Final = {
    "without any password configured": _NO_PASSWORD,
    "but no password is set": _NO_PASSWORD,
    "invalid password": _Fault(
        "it refuses the password", "mend it in the URL; there it is percent-encoded"
    ),
    "MISCONF": _Fault(
        "it cannot save to its disk and refuses writes (MISCONF)",
        "mend its disk, see its log",
    ),
    "NOREPLICAS": _Fault(
        "it has too few replicas to accept writes (NOREPLICAS)",
        "bring them back, or lower its min-replicas-to-write",
    ),
    "BUSY Redis": _Fault("it is busy with somebody's script", "wait, or send it SCRIPT KILL"),
    "DENIED": _Fault(
        "it is in protected mode and accepts only its own machine",
        "set a password there and give it in the URL",
    ),
    "max number of clients": _Fault(
        "it has as many connections as it allows", "raise its maxclients, or end other clients"
    ),
    "DB index": _Fault(
        "it has no database of the number in the URL", "use a lower one, or raise its databases"
    ),
    "SELECT is not allowed in cluster mode": _Fault(
        "it is in cluster mode, which has database 0 only", "leave the database out of the URL"
    ),
    "which gkc never stores there": _Fault(
        "{}", "delete that key, or choose another GKC_NAMESPACE"
    ),
    "not those to what was asked": _Fault(
        "{}",
        "look at what lies between: a proxy that drops, repeats or changes answers",
    ),
    "unknown command": _Fault(
        "it does not know what it was asked ({})",
        "name a Redis server of version 7 or later in the URL, not a Sentinel",
    ),
}
