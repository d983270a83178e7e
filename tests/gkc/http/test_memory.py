"""What large answers leave is kept for a while, and given back when it is asked for."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

LARGE = """
import resource
from pathlib import Path
from gkc.http.memory import give_freed_memory_back, keep_freed_memory

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20

keep_freed_memory()
blocks = [(b"a" * (4 << 20), b"b" * 200_000) for _ in range(50)]
between = [small for _, small in blocks]
del blocks
print(resident(), end=" ")
give_freed_memory_back()
print(resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_what_was_kept_is_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    kept, left = map(int, told.stdout.split())
    assert kept > 200 > 100 > left
