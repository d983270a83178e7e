"""The compiled library as Python calls it: through ctypes, with addresses of arrays.

It holds the interpreter's lock: a call of microseconds is not worth letting go of it, and long
questions are laid some rows at a time.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from gkc.errors import LayoutError
from gkc.rows_library import LIBRARY, load
from gkc.rows_trial import check

_FAULTS: Final = {
    1: "a table points outside itself",
    2: "a user's record has another length",
    3: "a row points outside its answer",
    4: "a string lies outside of its column",
}
Array = npt.NDArray[np.generic]

_address_of: Final = ctypes.addressof
_memory_of: Final = ctypes.c_char.from_buffer
_NO_BYTES: Final = bytearray(8)
NOWHERE: Final = _address_of(_memory_of(_NO_BYTES))
"""The address of an array without elements: nothing is read there, but there is memory."""


@cache
def library() -> ctypes.PyDLL:
    """Load the library that is installed with gkc, and try it: once a process.

    Raises
    ------
    RowRuleError
        If it is not there, is of another platform, or answers other bits than it should.
    """
    loaded = load(LIBRARY)
    check(loaded)
    return loaded


def address(array: Array) -> int:
    """Return where the memory of a contiguous array begins."""
    if not array.size:
        return NOWHERE
    try:
        return _address_of(_memory_of(array.data))
    except TypeError:  # it is read-only; three times as slow for the others
        return array.ctypes.data


def opened(name: str, section: memoryview, dtype: str) -> Array:
    """Return a section as numbers, which the compiled loops read where they lie.

    Raises
    ------
    LayoutError
        If they do not lie at a multiple of their size.
    """
    array: Array = np.frombuffer(section, dtype=dtype)
    if array.size and not array.flags.aligned:
        raise LayoutError(f"section {name} does not begin at a multiple of {array.itemsize}")
    return array


def fault(outcome: int) -> LayoutError:
    """Return what a compiled loop says is wrong by an outcome that is not 0."""
    return LayoutError(_FAULTS[outcome])
