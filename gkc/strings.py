"""A column of ids that are strings: their bytes, one behind the other, compared as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from gkc.arrays import I64, U8, Bools

IdType = Literal["int64", "string"]
"""What the ids of one kind are, in one version."""

MAX_STRING_BYTES: Final = 128
_CONTINUATION: Final = 0x80
_TOP_BITS: Final = 0xC0


class StringIds:
    """A column of strings.

    Parameters
    ----------
    data : ndarray, shape (m,), uint8
        All strings as UTF-8.
    offsets : ndarray, shape (n + 1,), int64
        Where each begins, and where the last one ends; from 0 to m, ascending.
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: U8, offsets: I64) -> None:
        self.data = data
        self.offsets = offsets

    @classmethod
    def of(cls, names: Sequence[bytes]) -> StringIds:
        """Put strings together."""
        return cls(_array(b"".join(names)), _offsets(map(len, names), len(names)))

    @classmethod
    def of_text(cls, texts: Sequence[str]) -> StringIds:
        """Put texts together, as UTF-8.

        Raises
        ------
        TypeError
            If one is no text.
        UnicodeEncodeError
            If one has half a surrogate pair.
        """
        # One byte between two strings tells where they meet: faster than to ask each for its size.
        raw, n = "\0".join(texts).encode(), len(texts)
        if n == 1:
            return cls(_array(raw), np.array((0, len(raw)), dtype=np.int64))
        between = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) == 0)
        if len(between) != n - 1:  # there is none, or one of them has such a byte
            return cls.of([text.encode() for text in texts])
        offsets = np.zeros(n + 1, dtype=np.int64)
        offsets[1:n] = between - np.arange(n - 1, dtype=np.int64)
        offsets[n] = len(raw) - (n - 1)
        return cls(_array(raw.replace(b"\0", b"")), offsets)

    def __len__(self) -> int:
        """Return how many strings there are."""
        return len(self.offsets) - 1

    def __getitem__(self, rows: I64 | slice) -> StringIds:
        """Return the strings at some places; of neighbours, nothing is copied."""
        if isinstance(rows, slice):
            start, end, _ = rows.indices(len(self))
            ends = self.offsets[start : max(start, end) + 1]
            return StringIds(self.data[ends[0] : ends[-1]], ends - ends[0])
        starts, lengths = self.offsets[:-1][rows], self.lengths[rows]
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return StringIds(self.data[places], offsets)

    @property
    def lengths(self) -> I64:
        """The bytes of each string, shape (n,), int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def tolist(self) -> list[bytes]:
        """Return each string by itself."""
        raw = self.data.tobytes()
        return [raw[start:end] for start, end in pairwise(self.offsets.tolist())]

    def first_unfit(self, is_given: Bools | None = None, *, are_texts: bool = False) -> int | None:
        """Return the place of the first that is not 1 to `MAX_STRING_BYTES` bytes of UTF-8.

        Parameters
        ----------
        is_given : ndarray, shape (n,), bool, optional
            Which of them count; default: all.
        are_texts : bool
            Whether they are known to be UTF-8.

        Returns
        -------
        int or None
            None if all are.
        """
        lengths = self.lengths
        unfit = (lengths - 1).view(np.uint64) >= MAX_STRING_BYTES  # 0 becomes the largest number
        if not are_texts and not self._is_text():
            unfit |= np.fromiter((not is_text(n) for n in self.tolist()), np.bool_, len(self))
        if is_given is not None:
            unfit &= is_given
        return int(unfit.argmax()) if unfit.any() else None

    def _is_text(self) -> bool:
        """Tell whether all is UTF-8, and no string begins within a character."""
        raw = self.data.tobytes()
        if raw.isascii():
            return True
        begun = self.data[self.offsets[:-1][self.lengths > 0]]
        return is_text(raw) and bool(((begun & _TOP_BITS) != _CONTINUATION).all())


Ids = I64 | StringIds
"""A column of ids of one kind."""


def distinct_strings(column: StringIds) -> tuple[I64, I64]:
    """Find the distinct strings of a column, and number them.

    Returns
    -------
    first : ndarray, shape (distinct,), int64
        The row in which each appears first; ascending.
    index : ndarray, shape (n,), int64
        Which of them each row has.
    """
    names = column.tolist()
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    index = np.fromiter(map(numbers.__getitem__, names), dtype=np.int64, count=len(names))
    first = np.full(len(numbers), len(names), dtype=np.int64)
    np.minimum.at(first, index, np.arange(len(names), dtype=np.int64))
    return first, index


def _array(raw: bytes) -> U8:
    # Of bytes that may be written, the address is found sooner.
    return np.frombuffer(bytearray(raw), dtype=np.uint8)


def _offsets(lengths: Iterable[int], count: int) -> I64:
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.fromiter(lengths, dtype=np.int64, count=count), out=offsets[1:])
    return offsets


def is_text(raw: bytes) -> bool:
    """Tell whether bytes are UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
