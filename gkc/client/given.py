"""What a caller's containers hold → Python's own values or numpy's arrays, which can be checked.

pandas, PyArrow, torch and their like are known by what they offer; none of them is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from gkc.arrays import Array
from gkc.center.checks import IS_NULL, NO_ID
from gkc.errors import InvalidFieldsError

_TO_LIST: Final = ("tolist", "to_pylist", "to_list")
"""What returns Python's own values: of pandas and PyArrow, of chunks of PyArrow, of polars."""


def held_ids(values: Any, field: str) -> Any:  # noqa: ANN401
    """Return ids as one value, a list or numpy's array; where some may be missing, as a list.

    Raises
    ------
    InvalidFieldsError
        If they cannot be counted, or come in no order.
    """
    if type(values) in (int, str, list):
        return values
    if isinstance(values, str):  # of a subclass: an enumeration's member, a string of numpy
        return [str.__str__(values)]
    if type(values) is np.ndarray and values.dtype.kind in "iu":
        return values
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return list(values)  # numpy would make strings of numbers among strings
    if isinstance(values, np.ma.MaskedArray):
        return values.tolist()
    if isinstance(values, Iterable) and not hasattr(values, "__getitem__"):
        raise InvalidFieldsError(f"{NO_ID}, {_but_a(values)}; make a list of it", field)
    array = np.asarray(values)
    is_numpys = isinstance(getattr(values, "dtype", None), np.dtype)
    if array.dtype.kind == "f" and array.ndim == 1 and not is_numpys:
        return _listed(values)  # numpy has no missing integers, so they became floats
    return array.tolist() if array.dtype.kind in "OT" and array.ndim == 1 else array


def with_none(values: list[Any]) -> list[Any]:
    """Return a list with None for whatever stands for a missing value."""
    return [None if _is_missing(value) else value for value in values]


def with_its_type(error: InvalidFieldsError, values: list[Any]) -> InvalidFieldsError:
    """Return an error on one of these values that says, too, of what type that is."""
    (wrong,) = error.errors
    value = values[int(wrong.field.rpartition("/")[2])]
    if _is_missing(value):
        return InvalidFieldsError(IS_NULL, wrong.field)
    if type(value) is int or isinstance(value, str):
        return error
    return InvalidFieldsError(f"{wrong.detail}, {_but_a(value)}", wrong.field)


def not_integers(array: Array, field: str) -> InvalidFieldsError:
    """Return the error that refuses an array of something else; names what is missing in it."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        remedy = "pass a list with None there" if field == "/c" else "every row needs one"
        return InvalidFieldsError(
            f"is missing (NaN), and missing values make integers {array.dtype}: {remedy}",
            f"{field}/{int(np.isnan(array).argmax())}",
        )
    return InvalidFieldsError(f"{NO_ID}, but of an array of {array.dtype}", f"{field}/0")


def held_names(values: Any) -> Any:  # noqa: ANN401
    """Return names as a string or a list of them, whatever held them."""
    if isinstance(values, str):
        return str.__str__(values)
    if hasattr(values, "__array__"):
        return np.asarray(values).tolist()
    return list(values) if isinstance(values, tuple) else values


def _listed(values: Any) -> list[Any]:  # noqa: ANN401
    for name in _TO_LIST:
        if hasattr(values, name):
            listed: list[Any] = getattr(values, name)()
            return listed
    return list(values)


def _is_missing(value: object) -> bool:
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ == "NAType"  # of pandas: equals nothing


def _but_a(value: object) -> str:
    return f"but a {type(value).__name__}"
