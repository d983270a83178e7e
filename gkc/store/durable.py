"""Files and directories that are still there, whole, after the machine lost power."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

TEMPORARY: Final = ".tmp"
"""What is appended to the name of a file that is being replaced."""


def make_directory(path: Path) -> None:
    """Make a directory and its parents, durably; nothing happens if it is there."""
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as exc:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from exc
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file durably and in one step; the caller is its only writer."""
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
