"""Store URLs: which backend, where, and how to show one without its secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gkc.errors import CommandError, StoreUrlError
from gkc.store.generation import is_version_name
from gkc.store.redis_url import CREDENTIALS, REDIS_SCHEMES, parse_redis_url

SCHEMES: Final = ("file", *REDIS_SCHEMES)

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HARMLESS: Final = re.compile(r"[A-Za-z0-9._/-]*")
"""No URL, but a path or a name: it is shown, since nobody writes a password like that."""
_SECRET_FOLLOWS: Final = re.compile(r"[@?#]")
_ANOTHER_URL: Final = re.compile(
    rf"[./]*(?:{'|'.join(SCHEMES)}):"
    r"|[./]*[^/]*:[^/]*@"  # USER:PASSWORD@
    r"|.*://"
    rf"|.*[?&](?:{'|'.join(sorted(CREDENTIALS))})=",
    re.IGNORECASE | re.DOTALL,
)
"""What stands behind ``file:`` by mistake; it is no directory, and may hold a password."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A parsed store URL.

    Attributes
    ----------
    scheme : {"file", "redis", "rediss", "unix"}
    url : str
        As given, secrets included.
    shown : str
        Without user name and password; the absolute path of a ``file:`` store.
    path : Path
        Absolute directory of a ``file:`` store; empty for the others.
    arguments : mapping
        Arguments of the client library's connection; empty for a ``file:`` store.
    """

    scheme: str
    url: str = field(repr=False)
    shown: str
    path: Path
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def is_missing(self) -> bool:
        """Tell whether this is a ``file:`` store whose directory does not exist (yet)."""
        if self.scheme != "file":
            return False
        try:
            self.path.stat()
        except OSError as exc:
            # After another error it may be there: who reads it is told why it cannot be read.
            return isinstance(exc, FileNotFoundError | NotADirectoryError)
        return False


def parse_store_url(url: str) -> StoreUrl:
    """Parse a store URL.

    Raises
    ------
    StoreUrlError
        If the scheme is not one of ours, or the place it names is missing. Never repeats a secret.
    """
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "file":
        return _parse_file(url, rest)
    # Of a URL that we do not understand nothing is shown that may be a secret: what stands before
    # the first colon may be a user's name, and any other part a password.
    if not _SCHEME.fullmatch(scheme) or not rest.startswith("//"):
        raise StoreUrlError(url if _HARMLESS.fullmatch(url) else "...", "has no scheme")
    if scheme not in REDIS_SCHEMES:
        if _SECRET_FOLLOWS.search(rest):
            raise StoreUrlError("...", "has an unknown scheme")
        raise StoreUrlError(f"{scheme}://...", f"has the unknown scheme {scheme!r}")
    shown, arguments = parse_redis_url(url)
    return StoreUrl(scheme, url, shown, Path(), arguments)


def require_store(url: str) -> None:
    """Check that a store is there, for commands that read what it holds or change it.

    Raises
    ------
    CommandError
        If it is a directory that does not exist: a misspelt path must not look like an empty store.
    StoreUrlError
        If the URL cannot be read.
    """
    where = parse_store_url(url)
    if where.is_missing():
        raise CommandError(
            f"no store at {where.path}; name the right one by --store or GKC_STORE_URL, "
            f"or export into it: gkc-export --version V --bundle DIR --store {where.shown}"
        )


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
    if _ANOTHER_URL.match(place):
        raise StoreUrlError("file:...", "has another URL behind file:")
    if rest.startswith("//") and not place.startswith("/"):
        raise StoreUrlError("file://...", "names a host; a file store is a local directory")
    if not place:
        raise StoreUrlError(url, "names no directory")
    try:
        path = Path(place).expanduser().absolute()
    except RuntimeError as exc:  # ~NAME
        raise StoreUrlError("file:~...", "names the home of a user who has none") from exc
    return StoreUrl("file", url, f"file:{path}", path)
