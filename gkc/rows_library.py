"""The compiled library of a knowledge row's rule, as ctypes calls it: found, loaded, described."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import Final

from gkc.errors import RowRuleError

LIBRARY: Final = Path(__file__).with_name(
    "librows.dylib" if sys.platform == "darwin" else "librows.so"
)

TYPES: Final = {"f16": 0, "f32": 1, "int8": 2}
_ELEMENT_BYTES: Final = {"f16": 2, "f32": 4, "int8": 1}
TABLE: Final = "PPqq"
STRINGS: Final = "PPqq"
GENERATION: Final = "qqqPPPPPPqq"
QUESTION: Final = "qqPPPqPPqPqPqqqqqqqPPPPP"
REPLY: Final = "qqqqq"
"""The structures of ``rows.c``: addresses and numbers of eight bytes. A generation begins with its
table of items."""


def load(path: Path, *, plain: bool = False) -> ctypes.PyDLL:
    """Load a build of ``rows.c``.

    Parameters
    ----------
    path : Path
    plain : bool
        Convert halves by plain loops even if the processor could do it.

    Raises
    ------
    RowRuleError
        If it is not there, is of another platform, or is no such library.
    """
    try:
        loaded = ctypes.PyDLL(str(path))
        _declare(loaded)
    except (OSError, AttributeError) as exc:
        raise RowRuleError(f"cannot be loaded ({exc})", build(path)) from exc
    loaded.gkc_choose(plain)
    return loaded


def build(path: Path) -> str:
    """Say which library it is, and on what machine."""
    return f"{path} on {platform.machine()}, {platform.platform()}"


def stride(element_type: str, width: int) -> int:
    """Return the bytes that one stored vector of ``width`` elements takes."""
    scale_bytes = 4 if element_type == "int8" and width else 0
    return _ELEMENT_BYTES[element_type] * width + scale_bytes


def _declare(loaded: ctypes.PyDLL) -> None:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    loaded.gkc_choose.argtypes = [ctypes.c_int]
    loaded.gkc_find.argtypes = [ctypes.c_char_p, pointer, number, pointer]
    loaded.gkc_find_one.restype = number
    loaded.gkc_find_one.argtypes = [ctypes.c_char_p, number]
    loaded.gkc_keys.argtypes = [ctypes.c_char_p, pointer]
    loaded.gkc_find_strings.argtypes = [ctypes.c_char_p] * 3 + [pointer]
    loaded.gkc_find_sorted.argtypes = [ctypes.c_char_p] * 2 + [pointer]
    loaded.gkc_take_strings.restype = number
    loaded.gkc_take_strings.argtypes = [ctypes.c_char_p, number, number, pointer, pointer]
    loaded.gkc_count_values.restype = number
    loaded.gkc_count_values.argtypes = [ctypes.c_char_p, number, number]
    loaded.gkc_announced.restype = number
    loaded.gkc_announced.argtypes = [pointer, ctypes.c_char_p, number]
    loaded.gkc_distinct.restype = number
    loaded.gkc_distinct.argtypes = [pointer, pointer, pointer, number]
    loaded.gkc_distinct.argtypes += [ctypes.c_uint64, pointer, ctypes.c_uint64, pointer, pointer]
    loaded.gkc_check_records.restype = number
    loaded.gkc_check_records.argtypes = [ctypes.c_uint64] + [ctypes.c_char_p] * 3
    loaded.gkc_check_records.argtypes += [pointer, number, number]
    loaded.gkc_lay_rows.argtypes = [ctypes.c_char_p] * 3 + [number, number]
