"""What `ps` shows of a process that was forked, which would look like its parent otherwise."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

WORKER: Final = "gkc worker (spawn_main)"
"""With the word by which workers of `multiprocessing`, like uvicorn's, have always been found."""
_ARGUMENTS_START, _ARGUMENTS_END = 48 - 3, 49 - 3
"""Fields of ``/proc/PID/stat``, counted behind the name: see proc(5)."""


def set_title(title: str) -> None:
    """Write a title over this process's arguments, as far as it fits; only Linux shows them so."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    start, end = int(fields[_ARGUMENTS_START]), int(fields[_ARGUMENTS_END])
    if start:  # else the kernel does not say where they are
        size = end - start
        ctypes.memmove(start, title.encode()[: size - 1].ljust(size, b"\0"), size)
