"""The right to write one version of a file store: a lock that the kernel takes from the dead."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from gkc.errors import LeaseLostError, VersionBusyError


class FileLease:
    """The lock on one version's lease file, which the kernel releases when its holder dies.

    Parameters
    ----------
    path : Path
        The lease file; made if it is not there.
    version, holder : str
        Which version, and who takes the lease, for people.

    Raises
    ------
    VersionBusyError
        If another one holds it, be it in this process or in another.
    OSError
        If the file cannot be made.
    """

    def __init__(self, path: Path, version: str, holder: str) -> None:
        self.token = secrets.token_hex(8)
        self._path = path
        self._version = version
        self._fd = self._lock()
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, holder.encode(), 0)
        except OSError:
            self.release()
            raise

    def check(self, generation: str) -> None:
        """Raise LeaseLostError if the lease may have passed to another writer."""
        if self._fd < 0 or not self._is_in_place(self._fd):
            raise LeaseLostError(self._version, generation)

    def release(self) -> None:
        """Give the lease back; calling it again does nothing."""
        if self._fd < 0:
            return
        if self._is_in_place(self._fd):
            self._path.unlink()
        os.close(self._fd)
        self._fd = -1

    def _lock(self) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 4096, 0).decode(errors="replace")
                os.close(fd)
                raise VersionBusyError(self._version, holder or "another process") from None
            # Its holder may have removed the file between our open and our lock: then try anew.
            if self._is_in_place(fd):
                return fd
            os.close(fd)

    def _is_in_place(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.stat())
        except FileNotFoundError:
            return False
