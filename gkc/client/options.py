"""How a client is made: its URLs and options, checked; and what its hook is told."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Final, Literal, cast

from gkc.errors import ClientUsageError
from gkc.lock import Lock

AttemptKind = Literal["first", "retry", "hedge"]
SERVICES: Final = ("http://", "https://")
STORES: Final = ("file:", "redis://", "rediss://", "unix://")


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What ``on_request`` is told of each attempt, once it is over.

    Attributes
    ----------
    address : str
        The URL that was asked.
    seconds : float
    outcome : int or str
        The status answered, or the name of the error; ``"abandoned"`` if another was faster, or
        the caller was interrupted.
    rows : int
        How many were asked for.
    kind : {"first", "retry", "hedge"}
    """

    address: str
    seconds: float
    outcome: int | str
    rows: int
    kind: AttemptKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a client is made of, as `gkc.client.Client` tells it; checked.

    Raises
    ------
    ClientUsageError
        If an option is none, or the kind of URL has no use for it.
    """

    urls: tuple[str, ...]
    timeout: float
    retries: int
    hedge_after: float | None
    max_rows: int
    on_request: Callable[[AttemptReport], object] | None
    namespace: str | None
    mirror_dir: str | os.PathLike[str] | None
    lock: Lock | None
    api_key: str | None = field(repr=False)
    allow_stale: float

    def __post_init__(self) -> None:
        """Check them."""
        hedge_after, on_request = self.hedge_after, self.on_request
        _check("timeout", self.timeout, _is_seconds(self.timeout), "a number of seconds above 0")
        _check("retries", self.retries, _is_count(self.retries, 0), "a count of 0 or more")
        is_hedge = hedge_after is None or _is_seconds(hedge_after)
        _check("hedge_after", hedge_after, is_hedge, "a number of seconds above 0, or None")
        _check("max_rows", self.max_rows, _is_count(self.max_rows, 1), "a count of 1 or more")
        is_hook = on_request is None or callable(on_request)
        _check("on_request", on_request, is_hook, "a function, or None")
        stale = self.allow_stale
        is_age = stale == 0 or _is_seconds(stale)
        _check("allow_stale", stale, is_age, "a number of seconds, 0 or more")
        if self.api_key is not None and not _is_key(self.api_key):
            raise ClientUsageError(
                "api_key=, or GKC_API_KEY of a command, must be one that `gkc key new` printed: "
                "ASCII characters without spaces"
            )
        others: tuple[str, ...]
        if self.is_local:
            kind, others = "a service", ("hedge_after", "on_request", "api_key")
        else:
            kind, others = "a store in this process", ("namespace", "mirror_dir")
        for name in others:
            if getattr(self, name) is not None:
                raise ClientUsageError(f"{name}= is for {kind}; leave it out")

    @property
    def is_local(self) -> bool:
        """Whether a store is answered from in this process."""
        return self.urls[0].startswith(STORES)


def urls_of(url: object) -> tuple[str, ...]:
    """Return the URL of a store, or those of services.

    Raises
    ------
    ClientUsageError
        If they are something else.
    """
    urls = tuple(url) if isinstance(url, Iterable) and not isinstance(url, str) else (url,)
    if not urls:
        raise ClientUsageError("there is no address; name at least one")
    begin = (
        f"a client's URL begins with one of {', '.join((*SERVICES, *STORES))}; "
        "of services it may have several, of stores one"
    )
    for each in urls:
        if not isinstance(each, str):
            raise ClientUsageError(f"{begin}; it is a str, not a {type(each).__name__}")
    texts = tuple(map(str, urls))
    if len(texts) > 1 or not texts[0].startswith(STORES):
        for each in texts:
            if not each.lower().startswith(SERVICES):
                raise ClientUsageError(begin)
    return texts


def lock_of(lock: object) -> Lock | None:
    """Return a lock, read from its file if that is what is given.

    Raises
    ------
    ClientUsageError, CommandError
        If it is neither, or the file cannot be read.
    """
    if lock is None or isinstance(lock, Lock):
        return lock
    is_path = isinstance(lock, str | os.PathLike) and bool(os.fspath(lock))
    _check("lock", lock, is_path, "the path of a file that `gkc lock` wrote, a Lock or None")
    return Lock.read(Path(cast("os.PathLike[str]", lock)))


def _is_key(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[!-~]{1,1024}", value) is not None


def _is_seconds(value: object) -> bool:
    return isinstance(value, Real) and 0 < cast("float", value) <= sys.float_info.max


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, Integral) and int(value) >= least


def _check(name: str, value: object, is_right: bool, expected: str) -> None:
    if not is_right:
        raise ClientUsageError(f"{name}={value!r} must be {expected}")
