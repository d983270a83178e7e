"""The right to write one version of a file store: a lock that the kernel takes from the dead."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from gkc.errors import LeaseLostError, VersionBusyError
from gkc.store.durable import NO_ROOM, is_at, lock_file


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
        fd = lock_file(path)
        if fd is None:
            raise VersionBusyError(version, _holder_in(path))
        self._fd = fd
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, holder.encode(), 0)
        except OSError as exc:
            # Its name is for people; on a full disk the lease is needed to sweep what fills it.
            if exc.errno not in NO_ROOM:
                self.release()
                raise

    def check(self, generation: str) -> None:
        """Raise LeaseLostError if the lease may have passed to another writer."""
        if self._fd < 0 or not is_at(self._fd, self._path):
            raise LeaseLostError(self._version, generation)

    def release(self) -> None:
        """Give the lease back; calling it again does nothing."""
        if self._fd < 0:
            return
        if is_at(self._fd, self._path):
            self._path.unlink()
        os.close(self._fd)
        self._fd = -1


def _holder_in(path: Path) -> str:
    """Say who holds a lease, as its file tells."""
    with suppress(FileNotFoundError):  # given back at this moment
        return path.read_text(encoding="utf-8", errors="replace") or "another process"
    return "another process"
