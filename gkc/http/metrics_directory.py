"""The folder in which the workers of one service share their metrics."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gkc.errors import CommandError, ServiceNotReadyError

_PREFIX: Final = "gkc-metrics-held-"
"""Not ``gkc-metrics-``: folders of that name, of earlier versions, have no lock while in use."""


@contextmanager
def metrics_directory() -> Iterator[Path]:
    """Make one, remove it at the end, and before that those whose services were killed.

    A lock, which the kernel takes from the dead, tells a folder that is in use.

    Raises
    ------
    CommandError
        If there is no place for it.
    """
    try:
        _remove_forsaken()
        directory, lock = _make()
    except OSError as exc:
        raise CommandError(
            f"no directory for the metrics that workers share: {exc}; "
            "name one that can be written to in TMPDIR"
        ) from exc
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _remove_forsaken() -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = _lock(directory)
        if lock is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)


def _make() -> tuple[Path, int]:
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = _lock(directory)
        if lock is not None and directory.is_dir():
            return directory, lock
        # Another service that starts saw it before it was locked, and removes it.


def _lock(directory: Path) -> int | None:
    """Lock a folder until the descriptor is closed; None if it is in use, not ours or gone."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


@contextmanager
def told_if_gone(directory: Path | None) -> Iterator[None]:
    """Tell of a directory that is missing by what it means.

    Raises
    ------
    ServiceNotReadyError
        For what fails within the block because of it.
    """
    try:
        yield
    except (OSError, ValueError) as exc:  # the latter is how the library tells it
        if directory is None or directory.is_dir():
            raise
        raise ServiceNotReadyError(
            f"{directory}, where workers share their metrics, is gone: their parent was killed, or "
            "somebody cleared TMPDIR; start gkc serve again"
        ) from exc
