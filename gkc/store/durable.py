"""Files and directories that are still there, whole, after the machine lost power."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

TEMPORARY: Final = ".tmp"
"""What is appended to the name of a file that is being replaced."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a write meets on a full disk, at the end of a quota, or of a process's allowance."""
_PRIVATE: Final = 0o700


def open_regular(path: Path, flags: int, mode: int = 0o644) -> int:
    """Open a file for which nothing else may stand, and never wait for who writes into a pipe.

    Raises
    ------
    OSError
        If it cannot be opened, or is a directory, a pipe, a device or the like.
    """
    no_file = OSError(errno.EINVAL, "is not a regular file", str(path))
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as exc:
        if exc.errno in {errno.EISDIR, errno.ENXIO}:  # a directory, or a pipe that nobody reads
            raise no_file from exc
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise no_file
    return fd


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


def private_directory(root: Path, name: str) -> Path:
    """Return a directory of caches in one that is this user's alone; both are made if need be.

    Raises
    ------
    OSError
        If one cannot be made, or the root is another user's, who could put files there.
    """
    root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    if root.stat().st_uid != os.geteuid():
        raise PermissionError(0, "it belongs to another user; set GKC_MIRROR_DIR", str(root))
    directory = root / name
    directory.mkdir(mode=_PRIVATE, exist_ok=True)
    return directory


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
    fd = open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink()  # a part of it would take room on a disk that may have none left
        raise
    temporary.replace(path)
    sync_directory(path.parent)


def lock_file(path: Path, pause: Callable[[], None] | None = None) -> int | None:
    """Lock a file, which is made if it is not there; the kernel takes a lock from the dead.

    Parameters
    ----------
    path : Path
    pause : callable, optional
        Called while another one holds the lock, until it raises; without it nobody waits.

    Returns
    -------
    int or None
        A file descriptor, whose closing gives the lock back; None if another one holds it.

    Raises
    ------
    OSError
        If the file cannot be made.
    """
    while True:
        fd = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            if pause is None:
                return None
            pause()
            continue
        # Its holder may have removed the file between our open and our lock: then try anew.
        if is_at(fd, path):
            return fd
        os.close(fd)


def is_at(fd: int, path: Path) -> bool:
    """Tell whether an open file is the one that has this name now."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False
