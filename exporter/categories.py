"""Categories that are strings: all of them, in the order of their bytes, stand in a dictionary."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gkc.arrays import I64


class Categories:
    """Numbers categories as they come, and tells their places once all have come."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._sorted: list[bytes] = []
        self._places: I64 = np.zeros(0, dtype=np.int64)

    def add(self, names: pa.Array) -> I64:
        """Return the number of each of n strings, shape (n,), int64; 0 where there is none."""
        encoded = names.cast(pa.large_binary()).dictionary_encode()
        numbers = [self._numbers.setdefault(n, len(self._numbers)) for n in _distinct(encoded)]
        of_rows = np.asarray(pc.fill_null(encoded.indices, 0), dtype=np.int64)
        return np.array([*numbers, 0], dtype=np.int64)[of_rows]

    def names(self) -> list[bytes]:
        """Return all of them, in ascending order of their bytes."""
        if len(self._sorted) < len(self._numbers):
            self._sorted = sorted(self._numbers)
        return self._sorted

    def places(self) -> I64:
        """Return the place that each number has in that order, shape (n,), int64."""
        if len(self._places) < len(self._numbers):
            order = np.array([self._numbers[name] for name in self.names()], dtype=np.int64)
            self._places = np.empty(len(order), dtype=np.int64)
            self._places[order] = np.arange(len(order), dtype=np.int64)
        return self._places


def _distinct(encoded: pa.DictionaryArray) -> list[bytes]:
    names: list[bytes] = encoded.dictionary.to_pylist()
    return names
