"""Strings out of JSON text, by the compiled library: no Python object is made of each."""

from __future__ import annotations

import numpy as np

from gkc.compiled import address, library
from gkc.strings import StringIds, is_text


def strings_in(text: bytes) -> StringIds | None:
    """Return the column of strings that a JSON array holds.

    Parameters
    ----------
    text : bytes
        The array, from bracket to bracket.

    Returns
    -------
    StringIds or None
        None if it is anything else, has an escape or no string that could be an id: whoever asks
        has to look closer, and to say what is wrong.
    """
    data = np.empty(len(text), dtype=np.uint8)
    offsets = np.empty(len(text) // 4 + 2, dtype=np.int64)
    n = library().gkc_take_strings(text, 1, len(text) - 1, address(data), address(offsets))
    if n < 0 or not is_text(text):
        return None
    return StringIds(data[: offsets[n]], offsets[: n + 1])
