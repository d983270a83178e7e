"""Notes of table files that were found whole, so that each is read to its end once a host.

::

    MIRROR_DIR/checked/DEVICE-INODE-SIZE-MTIME-CTIME-BOOT    an empty file for each such table

A table that was written to or replaced has another name, and so no note; so have all after a boot.
They are only a cache: a table without a note is read before anything of it is answered.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog

from gkc.store.durable import private_directory

log = structlog.get_logger(__name__)

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_DIRECTORY: Final = "checked"
_LONGEST_SECONDS: Final = 30 * 24 * 3600
"""For how long a note holds: those of tables that are gone must not pile up."""
_AGAIN_SECONDS: Final = 600.0
"""After which a damaged table is read again though nobody wrote to it: its disk may be mended."""
_TICK_NS: Final = 20_000_000
"""What the clock of files may be late: a younger file may change and keep its times."""


class Identity(NamedTuple):
    """What tells whether a file is still the one, with the content, that was read."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Take it from what the system tells of a file."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class TableNotes:
    """The notes of one user on this host; safe to use from several threads and processes.

    What goes wrong with them is logged, and costs no more than another reading.

    Parameters
    ----------
    root : Path
        Where this host keeps mirrors; made if it is not there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()
        self._damaged: dict[Identity, tuple[str, float]] = {}

    def has(self, table: Identity) -> bool:
        """Tell whether a table was found whole."""
        try:
            written = self._place(table).stat().st_mtime
        except OSError:
            return False
        return time.time() - written < _LONGEST_SECONDS

    def add(self, table: Identity) -> None:
        """Note that a table was found whole, and drop what is too old to hold."""
        if _is_young(table):
            return
        try:
            place = self._place(table)
            place.touch()
            for other in place.parent.iterdir():
                with suppress(FileNotFoundError):  # another process drops it, too
                    if time.time() - other.stat().st_mtime > _LONGEST_SECONDS:
                        other.unlink()
        except OSError as exc:
            log.warning("table_not_noted", directory=str(self._root), reason=str(exc))

    def damage_of(self, table: Identity) -> str | None:
        """Return what this process found damaged in a table, if it need not be read again."""
        what, found_at = self._damaged.get(table, (None, 0.0))
        return what if time.monotonic() - found_at < _AGAIN_SECONDS else None

    def add_damage(self, table: Identity, what: str) -> None:
        """Keep in mind that a table is damaged; note no longer that it was found whole."""
        if not _is_young(table):
            self._damaged[table] = what, time.monotonic()
        try:
            self._place(table).unlink(missing_ok=True)
        except OSError as exc:
            log.warning("table_still_noted", directory=str(self._root), reason=str(exc))

    def _place(self, table: Identity) -> Path:
        name = "-".join([*(f"{number:x}" for number in table), _boot()])
        return private_directory(self._root, _DIRECTORY) / name


def _is_young(table: Identity) -> bool:
    return time.time_ns() - table.ctime_ns < _TICK_NS


@cache
def _boot() -> str:
    """Return what is another one after each boot, in which files may lose what was not durable."""
    return _BOOT.read_text().strip()
