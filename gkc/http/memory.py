"""What glibc keeps of freed memory: what one answer leaves, for the next; not what a crowd leaves.

Other C libraries have none of these switches, and keep what they like.
"""

from __future__ import annotations

import ctypes
from typing import Final

_OPTIONS: Final = {-3: 32 << 20, -1: 64 << 20}
"""M_MMAP_THRESHOLD, M_TRIM_THRESHOLD: blocks up to 32 MiB, of which 64 MiB stay while unused."""


def keep_freed_memory() -> None:
    """Have what an answer leaves kept for the next one.

    It is given back at once otherwise, if it is large, and each page of the next answer is then a
    fault: 450 of them, a third of the time, for 10,000 rows.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        for option, size in _OPTIONS.items():
            tune(option, size)


def give_freed_memory_back() -> None:
    """Give back whatever is free by now, between what is in use, too."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
