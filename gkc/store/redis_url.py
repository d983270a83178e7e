"""Redis URLs, read strictly: what is not certain is refused, and nothing of a refused one shown.

The client library would take ``redis://host/prod`` for database 0 and ``#`` in a password for the
end of the URL, so it never sees the URL: it is given the arguments that were read here.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from gkc.errors import StoreUrlError

REDIS_SCHEMES: Final = ("redis", "rediss", "unix")

CREDENTIALS: Final = frozenset(
    {"user", "username", "password", "passwd", "pass", "pwd", "auth", "token"}
)
"""Parameters that other programs take a user's name or password from, and we do not."""

_DEFAULT_PORT: Final = 6379
_MAX_PORT: Final = 65535
_MAX_HOST_LETTERS: Final = 253
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_ADDRESS: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]*))(?::(.*))?")
_USER_INFO: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*")
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODE: Final = (
    "percent-encode the user name and the password: # is %23, % is %25, / is %2F, ? is %3F, "
    "@ is %40"
)


def parse_redis_url(url: str) -> tuple[str, dict[str, Any]]:
    """Read a URL of one of `REDIS_SCHEMES`.

    Returns
    -------
    shown : str
        The URL without user name, password and all parameters but the database.
    arguments : dict
        Arguments of the client library's connection.

    Raises
    ------
    StoreUrlError
        If any part of it is not what it has to be. Repeats no part of the URL but its scheme.
    """
    scheme, _, rest = url.partition("://")
    try:
        return _parse(scheme, rest)
    except _RefusedError as refused:
        raise StoreUrlError(f"{scheme}://...", refused.reason, refused.remedy) from None


class _RefusedError(Exception):
    """A part of the URL is refused; says why and what to do, with nothing of that part."""

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason)


def _parse(scheme: str, rest: str) -> tuple[str, dict[str, Any]]:
    if not rest.isprintable() or any(map(str.isspace, rest)):
        raise _RefusedError(
            "has white space or a control character in it",
            "take it out, or percent-encode it: a space is %20",
        )
    place, _, query = rest.partition("?")
    authority, slash, path = place.partition("/")
    user_info, _, address = authority.rpartition("@")
    # Only the path of a socket may hold an @; elsewhere it ends a password that was not encoded.
    is_socket = scheme == "unix" and not address
    if "#" in rest or "@" in query or ("@" in path and not is_socket):
        raise _RefusedError("has a character in it that is not percent-encoded", _ENCODE)
    arguments = _credentials(user_info)
    arguments |= _socket(address, path) if scheme == "unix" else _host_and_port(address)
    parameters = _parameters(scheme, query)
    shown = f"{scheme}://{address}{slash}{path}"
    if "db" in parameters:
        shown += f"?db={parameters['db']}"
    if scheme != "unix" and path:
        if "db" in parameters:
            raise _RefusedError("names the database twice", "leave out the parameter db")
        arguments["db"] = _database(path)
    return shown, arguments | parameters


def _credentials(user_info: str) -> dict[str, Any]:
    if not _USER_INFO.fullmatch(user_info):
        raise _RefusedError("has a character in it that is not percent-encoded", _ENCODE)
    user, _, password = user_info.partition(":")
    named = {"username": user, "password": password}
    return {name: _decoded(value) for name, value in named.items() if value}


def _host_and_port(address: str) -> dict[str, Any]:
    match = _ADDRESS.fullmatch(address)
    ipv6, name, port = match.groups() if match else (None, None, None)
    if not address or name == "":
        raise _RefusedError("names no host", "write HOST, HOST:PORT or [IPV6]:PORT")
    # A zone stands behind %25: [fe80::1%25eth0]
    host = ipv6.replace("%25", "%") if ipv6 else name
    if host is None or not (_is_ipv6(host) if ipv6 else _is_host(host)):
        raise _RefusedError(
            "names no valid host and port", "write one HOST, HOST:PORT or [IPV6]:PORT"
        )
    if port is None:
        return {"host": host, "port": _DEFAULT_PORT}
    if not _NUMBER.fullmatch(port) or not 1 <= int(port) <= _MAX_PORT:
        raise _RefusedError(
            "names no valid port", f"write HOST:PORT, with a port from 1 to {_MAX_PORT}"
        )
    return {"host": host, "port": int(port)}


def _socket(address: str, path: str) -> dict[str, Any]:
    if address:
        raise _RefusedError(
            "names a host; a socket is a file of this machine", "write unix:///PATH"
        )
    if not path:
        raise _RefusedError("names no socket", "write unix:///PATH")
    return {"path": _decoded(f"/{path}")}


def _database(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _RefusedError(
            "names a database that is no number",
            "write /0, /1 and so on after the port, or nothing; a name goes into GKC_NAMESPACE",
        )
    return int(text)


def _parameters(scheme: str, query: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for piece in query.split("&") if query else ():
        name, _, value = piece.partition("=")
        _require_parameter(scheme, name)
        if name in parameters:
            raise _RefusedError(f"has the parameter {name} twice", "leave one of them out")
        read, what = _PARAMETERS[name]
        parameters[name] = read(_decoded(value))
        if parameters[name] is None:
            raise _RefusedError(f"has a wrong {name}", f"it must be {what}")
    for name in ("ssl_keyfile", "ssl_password"):
        if name in parameters and "ssl_certfile" not in parameters:
            raise _RefusedError(f"has {name}, but no ssl_certfile", "give both, or neither")
    return parameters


def _require_parameter(scheme: str, name: str) -> None:
    if scheme != "rediss" and name.lower().startswith(("ssl", "tls")):
        remedy = "leave them out" if scheme == "unix" else "use rediss:// for TLS"
        raise _RefusedError(f"has parameters of TLS, which {scheme}:// does without", remedy)
    if name.lower() in CREDENTIALS:
        raise _RefusedError(
            "has a user name or a password among its parameters",
            f"write {scheme}://USER:PASSWORD@ in front; {_ENCODE}",
        )
    if name not in _PARAMETERS:
        nearest = difflib.get_close_matches(name.lower(), _PARAMETERS, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        raise _RefusedError("has an unknown parameter", f"{hint}there are {', '.join(_PARAMETERS)}")


def _decoded(text: str) -> str:
    try:
        if _STRAY_PERCENT.search(text):
            raise ValueError
        decoded = unquote(text, errors="strict")
    except ValueError:
        raise _RefusedError("has a % in it that encodes nothing", _ENCODE) from None
    if "\0" in decoded:
        raise _RefusedError("has a zero byte in it", "take the %00 out")
    return decoded


def _is_host(host: str) -> bool:
    return len(host) <= _MAX_HOST_LETTERS and bool(_HOST.fullmatch(host))


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


_Kind = tuple[Callable[[str], Any], str]
"""What reads a parameter's value, giving None for one that is wrong, and what it must be."""

_FILE: Final[_Kind] = (
    lambda value: value if Path(value).is_file() else None,
    "the path of a file that exists, percent-encoded",
)
_PARAMETERS: Final[Mapping[str, _Kind]] = {
    "db": (lambda value: int(value) if _NUMBER.fullmatch(value) else None, "a number such as 0"),
    "ssl_ca_certs": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_password": (lambda value: value or None, "a text that is not empty"),
    "ssl_cert_reqs": ({"required": "required", "none": "none"}.get, "required or none"),
    "ssl_check_hostname": (
        lambda value: {"true": True, "false": False}.get(value.lower()),
        "true or false",
    ),
}
"""Every parameter there is; the rest of a connection is ours to set."""
