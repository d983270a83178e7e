"""Store URLs: which backend, where, and how to show one without its secrets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gkc.errors import StoreUrlError
from gkc.store.generation import is_version_name

_REDIS_SCHEMES: Final = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A parsed store URL.

    Attributes
    ----------
    scheme : {"file", "redis", "rediss", "unix"}
    url : str
        As given, secrets included: what a client library connects to.
    shown : str
        Without user name and password; the absolute path of a ``file:`` store.
    path : Path
        Absolute directory of a ``file:`` store; empty for the others.
    """

    scheme: str
    url: str
    shown: str
    path: Path


def parse_store_url(url: str) -> StoreUrl:
    """Parse a store URL.

    Raises
    ------
    StoreUrlError
        If the scheme is not one of ours, or the place it names is missing. Never repeats a secret.
    """
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise StoreUrlError(url, "has no scheme")
    if scheme == "file":
        return _parse_file(url, rest)
    nameless = f"{scheme}://..."  # of a URL that we do not understand, nothing more is shown
    if scheme not in _REDIS_SCHEMES:
        raise StoreUrlError(nameless, f"has the unknown scheme {scheme!r}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its text repeats what it could not read
        raise StoreUrlError(nameless, "names no valid host and port") from None
    if scheme == "unix" and not parts.path:
        raise StoreUrlError(nameless, "names no socket")
    if scheme != "unix" and not host:
        raise StoreUrlError(nameless, "names no host")
    shown = f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return StoreUrl(scheme, url, shown, Path())


def require_namespace(store: str, namespace: str) -> None:
    """Check the name of a namespace: made like a version's, and no relative directory.

    Raises
    ------
    StoreUrlError
        If it is not.
    """
    if not is_version_name(namespace) or namespace in {".", ".."}:
        raise StoreUrlError(store, f"namespace {namespace!r} is not 1 to 64 of A-Z a-z 0-9 . _ -")


def _parse_file(url: str, rest: str) -> StoreUrl:
    # file:PATH and file:///PATH alike; a host, as in file://HOST/PATH, cannot be meant.
    place = rest.removeprefix("//")
    if rest.startswith("//") and not place.startswith("/"):
        raise StoreUrlError(url, "names a host; a file store is a local directory")
    if not place:
        raise StoreUrlError(url, "names no directory")
    path = Path(place).expanduser().absolute()
    return StoreUrl("file", url, f"file:{path}", path)
