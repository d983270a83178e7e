"""The compiled library of the row rule, opened as it lies in the package."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Final

LIBRARY: Final = Path(__file__).with_name(
    "librows.dylib" if sys.platform == "darwin" else "librows.so"
)


def load(path: Path = LIBRARY) -> ctypes.CDLL:
    """Open a compiled ``rows.c``.

    Raises
    ------
    OSError
        If there is no such library, or not one for this machine.
    """
    return ctypes.CDLL(str(path))
