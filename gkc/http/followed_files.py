"""Small files that others write for a running service, read again whenever they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

from gkc.errors import CommandError

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 0.5
_MOST_BYTES: Final = 4 << 20
"""Thirty thousand keys, or a thousand certificates, take less."""

ValueT = TypeVar("ValueT")


class FollowedFiles(Generic[ValueT]):
    """What is read from files, and again whenever the bytes of one differ.

    Parameters
    ----------
    paths : sequence of Path
    read : callable
        Reads all of them, and raises `CommandError` where they are broken.

    Attributes
    ----------
    value : object
        What the files said when they were whole last.

    Raises
    ------
    CommandError
        If they are broken now.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], ValueT]) -> None:
        self._paths = paths
        self._read = read
        self._contents = self._look()
        self._refusal = ""
        self.value = read()

    def reread(self) -> None:
        """Read what changed; what is broken is logged once, and what was read last stays."""
        try:
            contents = self._look()
            if contents == self._contents and not self._refusal:
                return
            self.value = self._read()
        except CommandError as exc:
            if str(exc) != self._refusal:
                self._refusal = str(exc)
                log.error("files_refused", cause=self._refusal, remedy="what was read last stays")
            return
        self._contents, self._refusal = contents, ""
        log.info("files_read", paths=[str(path) for path in self._paths])

    async def follow(self) -> None:
        """Look at the files twice a second, for ever."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.to_thread(self.reread)

    def _look(self) -> list[bytes]:
        return [read_small_file(path) for path in self._paths]


def read_small_file(path: Path) -> bytes:
    """Read a file; raises `CommandError` where that cannot be done."""
    try:
        if path.exists() and not path.is_file():  # a pipe would keep us for ever
            raise CommandError(f"{path} is no file")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as exc:
        raise CommandError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(content) > _MOST_BYTES:
        raise CommandError(f"{path} is larger than {_MOST_BYTES} bytes, the most that is read")
    return content
