"""What a column is to a model: elements of one type, alone or in lists, and their casts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gkc.arrays import I64

Values = npt.NDArray[Any]

TEXT: Final = np.dtype(object)
"""Element type of what feeds inputs of strings: Python's own, as onnxruntime takes them."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A column in the one element type that some model input takes.

    Attributes
    ----------
    column : str
    dtype : numpy dtype
    is_list : bool
        Whether each row holds a list.
    fed_to : str
        An input that takes it, for messages.
    """

    column: str
    dtype: np.dtype[Any]
    is_list: bool
    fed_to: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Name that no other feature of the table has."""
        return f"{self.column}|{self.dtype.name}"

    @property
    def is_text(self) -> bool:
        """Whether its elements are strings."""
        return self.dtype == TEXT

    @property
    def described(self) -> str:
        """What its values must be, for messages; they are numbers."""
        return f"a {self.dtype.name}, as {self.fed_to} takes"


@dataclass(frozen=True, slots=True)
class Content:
    """What a column holds, alike in all files of its table.

    Attributes
    ----------
    file : str
        The first file that tells.
    is_list : bool
    elements : {"numbers", "strings", "nothing"}
        Nothing is what lists hold that are all empty.
    """

    file: str
    is_list: bool
    elements: Literal["numbers", "strings", "nothing"]

    @property
    def described(self) -> str:
        """What it is, for messages."""
        return f"lists of {self.elements}" if self.is_list else self.elements

    def fits(self, other: Content) -> bool:
        """Tell whether one column may hold both."""
        same = self.elements == other.elements or "nothing" in (self.elements, other.elements)
        return same and self.is_list == other.is_list

    def feeds(self, dtype: np.dtype[Any]) -> bool:
        """Tell whether its elements may feed an input of some type."""
        return self.elements == "nothing" or (self.elements == "strings") == (dtype == TEXT)


@dataclass(frozen=True, slots=True)
class ListColumn:
    """Lists of several rows, end to end.

    Attributes
    ----------
    values : ndarray, shape (m,)
        The elements of all lists.
    starts, lengths : ndarray, shape (n,), int64
        Where in ``values`` each row's list begins, and how long it is.
    """

    values: Values
    starts: I64
    lengths: I64

    def padded(self, rows: I64, width: int) -> Values:
        """Return some rows' lists, right-padded with 0; of a longer list the last elements.

        Parameters
        ----------
        rows : ndarray, shape (k,), int64
        width : int
            At least 1, so that an empty list is one 0.

        Returns
        -------
        ndarray, shape (k, width), dtype of ``values``
        """
        lengths = self.lengths[rows]
        kept = np.minimum(lengths, width)
        first = self.starts[rows] + lengths - kept
        columns = np.arange(width, dtype=np.int64)
        inside = columns < kept[:, np.newaxis]
        out = np.zeros((len(rows), width), dtype=self.values.dtype)
        out[inside] = self.values[(first[:, np.newaxis] + columns)[inside]]
        return out


def type_name(dtype: np.dtype[Any]) -> str:
    """Return what messages call the elements that an input takes."""
    return "strings" if dtype == TEXT else dtype.name


def blank(dtype: np.dtype[Any]) -> Literal["", 0]:
    """Return what an input is padded with."""
    return "" if dtype == TEXT else 0


def cast_values(values: Values, dtype: np.dtype[Any]) -> tuple[Values, int | None]:
    """Cast numbers as a model asks.

    An integer must keep its value in an integer type, and a fraction never becomes an integer. A
    conversion to a float type rounds, as numpy's does; only overflow to infinity is refused.

    Parameters
    ----------
    values : ndarray, shape (n,), integer, float or bool
    dtype : numpy dtype
        Integer, float or bool.

    Returns
    -------
    ndarray, shape (n,), ``dtype``
    int or None
        Position of the first value that does not fit; the array means nothing then.
    """
    if values.dtype == dtype:
        return values, None
    if dtype.kind == "b":
        return values != 0, None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = values.astype(dtype)
        infinite = np.isinf(cast) & np.isfinite(values)
        return cast, int(infinite.argmax()) if infinite.any() else None
    try:
        return _integers(values, dtype), None
    except pa.ArrowInvalid:
        return np.empty(0, dtype), _first_unfit(values, dtype)


def _integers(values: Values, dtype: np.dtype[Any]) -> Values:
    """Cast to integers, or raise ArrowInvalid."""
    limits = np.iinfo(dtype)
    if values.dtype.kind == "f":
        # Arrow checks a float by casting it back, which shows nothing where a processor makes of
        # one too large the largest integer, or where that is an infinite half.
        smallest, largest = float(values.min(initial=0)), float(values.max(initial=0))
        if not (limits.min <= smallest and largest <= limits.max):
            raise pa.ArrowInvalid(f"from {smallest} to {largest} is beyond {dtype.name}")
    return np.asarray(pc.cast(pa.array(values), pa.from_numpy_dtype(dtype)).to_numpy())


def _first_unfit(values: Values, dtype: np.dtype[Any]) -> int:
    """Look for the first value that is no integer of a type, slowly."""
    limits = np.iinfo(dtype)
    return next(
        place
        for place, value in enumerate(values.tolist())
        if not (limits.min <= value <= limits.max and value % 1 == 0)
    )
