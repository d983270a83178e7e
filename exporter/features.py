"""Column values to model inputs: casts that lose no integer, and lists padded to one width."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gkc.arrays import I64

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """A column in the one element type that some model input takes.

    Attributes
    ----------
    column : str
    dtype : numpy dtype
    is_list : bool
        Whether each row holds a list.
    wanted_by : str
        An input that takes it, for messages.
    """

    column: str
    dtype: np.dtype[Any]
    is_list: bool
    wanted_by: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Name that no other feature of the table has."""
        return f"{self.column}|{self.dtype.name}"


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
        unfit = np.isinf(cast) & np.isfinite(values)
        return cast, _first(unfit)
    if values.dtype.kind == "b" or not len(values):
        return values.astype(dtype), None
    with np.errstate(invalid="ignore"):
        cast = values.astype(dtype)
    return cast, _first(~_fits_integer(values, dtype))


def _fits_integer(values: Values, dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    limits = np.iinfo(dtype)
    if values.dtype.kind == "f":
        # The limits' powers of two are exact in every float type; the upper one is excluded.
        wide = values.astype(np.float64)
        inside = (wide >= float(limits.min)) & (wide < float(limits.max) + 1.0)
        if limits.max < 2**53:
            inside = (wide >= limits.min) & (wide <= limits.max)
        whole: npt.NDArray[np.bool_] = np.rint(wide) == wide
        return inside & whole
    own = np.iinfo(values.dtype)
    fits = np.ones(values.shape, dtype=np.bool_)
    if own.min < limits.min:
        fits &= values >= limits.min
    if own.max > limits.max:
        fits &= values <= limits.max
    return fits


def _first(flags: npt.NDArray[np.bool_]) -> int | None:
    return int(flags.argmax()) if flags.any() else None


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
