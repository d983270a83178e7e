"""What a caller gives → a question: refused as a service refuses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from gkc.arrays import Array
from gkc.center.checks import (
    NO_CATEGORIES,
    NO_ID,
    Categories,
    category_array,
    choice_of,
    columns_of,
    id_array,
    parts_of,
    versions_of,
)
from gkc.center.question import ANSWER_TYPES, Question
from gkc.client.given import held_ids, held_names, not_integers, with_its_type, with_none
from gkc.errors import InvalidFieldsError
from gkc.knowledge import PARTS, Part
from gkc.strings import Ids as Column

Numbers = int | np.integer[Any] | Sequence[int] | npt.NDArray[np.integer[Any]]
Strings = str | Sequence[str] | npt.NDArray[np.str_]
Ids = Numbers | Strings
"""One id for all rows, or one a row: integers or strings."""
OptionalIds = Ids | Sequence[int | None] | Sequence[str | None] | None
"""The same, or None, also in single rows."""

T = TypeVar("T")
_MOST_ROWS: Final = 2**63
"""More rows than are asked for at once are split."""


def question_of(
    u: Ids,
    i: Ids,
    c: OptionalIds,
    v: str | Sequence[str],
    parts: Sequence[Part] | None,
    dtype: str,
    allow_stale: float = 0.0,
) -> Question:
    """Return the question that these arguments ask.

    Raises
    ------
    InvalidFieldsError
        If there is a wrong value, or lists differ in length; names it by its JSON Pointer.
    """
    columns = columns_of(
        _ids(u, "/u"),
        _ids(i, "/i"),
        _categories(c),
        versions_of(held_names(v)),
        _MOST_ROWS,
        (_pointer(u, "/u"), _pointer(i, "/i"), _pointer(c, "/c")),
    )
    return Question(
        columns,
        PARTS if parts is None else parts_of(held_names(parts)),
        choice_of(dtype, ANSWER_TYPES, "/dtype"),
        allow_stale=allow_stale,
    )


def _pointer(values: Any, field: str) -> str:  # noqa: ANN401
    """Return the pattern of an element's JSON Pointer: of a single value, the field's."""
    is_one = isinstance(values, int | str) or getattr(values, "ndim", None) == 0
    return field if is_one else f"{field}/{{}}"


def _ids(values: Any, field: str) -> Column:  # noqa: ANN401
    """Return an id column, of one id or n."""
    if type(values) in (int, str):
        return id_array([values], field)
    if type(values) is np.ndarray and values.dtype == np.int64 and values.ndim == 1:
        return np.ascontiguousarray(values)
    held = held_ids(values, field)
    if isinstance(held, list):
        return _listed(id_array, held, field)
    return _array_of_ids(np.asarray(held), field)


def _listed(check: Callable[[list[Any], str], T], values: list[Any], field: str) -> T:
    values = _plain_ids(values)
    try:
        return check(values, f"{field}/{{}}")
    except InvalidFieldsError as error:
        raise with_its_type(error, values) from None


def _plain_ids(values: list[Any]) -> list[Any]:
    """Return a list with Python's own integers and strings in place of numpy's and subclasses'."""
    kinds = set(map(type, values)) - {int, str}
    if not any(issubclass(kind, np.integer | str) for kind in kinds):
        return values
    return [
        str.__str__(v) if isinstance(v, str) else v.item() if isinstance(v, np.integer) else v
        for v in values
    ]


def _array_of_ids(array: Array, field: str) -> Column:
    if array.ndim > 1:
        shape = list(array.shape)
        raise InvalidFieldsError(f"must be one id or a list of them, not of shape {shape}", field)
    if array.dtype.kind in "OUT":
        values = array.tolist()
        return (
            _listed(id_array, values, field) if array.ndim else id_array(with_none([values]), field)
        )
    column = np.atleast_1d(array)
    if not array.ndim and array.dtype.kind not in "iu":
        raise InvalidFieldsError(NO_ID, field)
    if column.dtype.kind not in "iu" and column.size:
        raise not_integers(column, field)
    if column.dtype.kind == "u" and column.size and int(column.max()) >= 2**63:
        return id_array(column.tolist(), f"{field}/{{}}")
    return np.ascontiguousarray(column, dtype=np.int64)


def _categories(values: Any) -> Categories:  # noqa: ANN401
    if values is None:
        return NO_CATEGORIES
    held = held_ids(values, "/c")
    if isinstance(held, list) and not set(map(type, held)) <= {int, str}:
        held = with_none(held)
        if type(None) in set(map(type, held)):
            return _listed(category_array, held, "/c")
    ids = _ids(held, "/c")
    return ids, np.ones(len(ids), dtype=np.bool_)
