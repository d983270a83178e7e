from __future__ import annotations

from pathlib import Path

from tests.native import build_sanitized, run_sanitized

LOAD = """
import sys
from pathlib import Path
from gkc.rows_library import load
print(load(Path(sys.argv[1])).gkc_choose(1) + 1)
"""

BEYOND = """
#include <stdint.h>
int read_at(const int8_t *bytes, int64_t place);
int read_at(const int8_t *bytes, int64_t place) { return bytes[place]; }
int add(int a, int b);
int add(int a, int b) { return a + b; }
"""

CALL_BEYOND = """
import ctypes, sys
import numpy as np
bytes = np.ones(16, dtype=np.int8)
library = ctypes.CDLL(sys.argv[1])
library.read_at.argtypes = [ctypes.c_void_p, ctypes.c_int64]
print(library.read_at(bytes.ctypes.data, int(sys.argv[2])), flush=True)
print(library.add(2**31 - 1, int(sys.argv[3])))
"""


def test_the_row_rule_loads_with_sanitizers(tmp_path: Path) -> None:
    done = run_sanitized(LOAD, build_sanitized(tmp_path))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_a_read_beyond_an_array_and_an_overflow_are_noticed(tmp_path: Path) -> None:
    source = tmp_path / "beyond.c"
    source.write_text(BEYOND)
    library = build_sanitized(tmp_path, source)
    assert run_sanitized(CALL_BEYOND, library, 15, 0).returncode == 0
    beyond = run_sanitized(CALL_BEYOND, library, 16, 0)
    assert beyond.returncode != 0
    assert "heap-buffer-overflow" in beyond.stderr
    overflow = run_sanitized(CALL_BEYOND, library, 15, 1)
    assert overflow.returncode != 0
    assert "signed integer overflow" in overflow.stderr
