"""Values → the columns and options of a question: what every way in refuses, in one wording.

All raise `InvalidFieldsError`. Which element is at fault is searched for only once one is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np

from gkc.arrays import I64, Bools
from gkc.center.question import POINTERS, Columns, Pointers, in_row_order
from gkc.errors import BatchTooLargeError, InvalidFieldsError
from gkc.knowledge import PARTS, Part, is_version_name
from gkc.strings import MAX_STRING_BYTES, Ids, StringIds

NO_ID: Final = (
    f"is not an integer within int64, nor a string of 1 to {MAX_STRING_BYTES} bytes of UTF-8"
)
IS_NULL: Final = "is null, and every row needs an id"
_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
_ONE_VERSION: Final = np.zeros(1, dtype=np.int64)

Categories = tuple[Ids, Bools] | tuple[None, None]
"""A column of categories, and where one was given; or none at all."""
NO_CATEGORIES: Final[Categories] = (None, None)
ChoiceT = TypeVar("ChoiceT", bound=str)


def id_array(values: list[Any], pointer: str, is_given: Bools | None = None) -> Ids:
    """Return the column of ids: integers, or strings.

    Parameters
    ----------
    values : list
    pointer : str
        The pattern of the k-th one's JSON Pointer.
    is_given : ndarray, shape (n,), bool, optional
        Which of them count; whatever stands for the others is of the same type.
    """
    kinds = set(map(type, values))
    if kinds <= {int}:  # a bool is no int here
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            pass  # named below, like every other value that is no id
    elif kinds == {str}:
        return string_array(values, pointer, is_given)
    raise _refusal(values, pointer, is_given)


def string_array(values: list[Any], pointer: str, is_given: Bools | None = None) -> StringIds:
    """Return the column of strings; as `id_array`."""
    try:
        ids = StringIds.of_text(values)
    except (TypeError, UnicodeEncodeError) as error:
        raise _refusal(values, pointer, is_given) from error
    k = ids.first_unfit(is_given, are_texts=True)
    if k is not None:
        raise InvalidFieldsError(unfit_string(ids, k), pointer.format(k))
    return ids


def unfit_string(ids: StringIds, place: int) -> str:
    """Say why the string at a place, found by `StringIds.first_unfit`, is no id."""
    size = int(ids.lengths[place])
    if 1 <= size <= MAX_STRING_BYTES:
        return "is a string of bytes that are not UTF-8"
    return f"is a string of {size} bytes, not 1 to {MAX_STRING_BYTES} of UTF-8"


def _refusal(values: list[Any], pointer: str, is_given: Bools | None) -> InvalidFieldsError:
    """Return the error on the first value that is no id, or not of the type of the first one."""
    places = range(len(values)) if is_given is None else np.flatnonzero(is_given).tolist()
    first, is_number = places[0], type(values[places[0]]) is int
    for k in places:
        if not _is_id(values[k]):
            return InvalidFieldsError(IS_NULL if values[k] is None else NO_ID, pointer.format(k))
        if (type(values[k]) is int) != is_number:
            break
    types = ("a string", "a number") if is_number else ("a number", "a string")
    return InvalidFieldsError(
        f"is {types[0]}, but {pointer.format(first)} is {types[1]}, "
        "and ids of one kind are all of one type",
        pointer.format(k),
    )


def _is_id(value: object) -> bool:
    if type(value) is int:
        return _INT64_MIN <= value <= _INT64_MAX
    return type(value) is str and not any("\ud800" <= char <= "\udfff" for char in value)


def category_array(values: list[Any], pointer: str) -> Categories:
    """Return the column of categories, None where none is given."""
    ids, has_category = filled(values)
    return id_array(ids, pointer, has_category), has_category


def filled(values: list[Any]) -> tuple[list[Any], Bools]:
    """Return the categories with one of their type where none was given, and where one was."""
    if None not in values:
        return values, np.ones(len(values), dtype=np.bool_)
    has_category = np.fromiter((v is not None for v in values), dtype=np.bool_, count=len(values))
    filler = "" if str in set(map(type, values)) else 0
    return [filler if v is None else v for v in values], has_category


def versions_of(value: object, pointer: str = "/v/{}") -> tuple[tuple[str, ...], I64]:
    """Return the distinct versions, and each row's position among them."""
    if not isinstance(value, list):
        if not isinstance(value, str) or not is_version_name(value):
            raise InvalidFieldsError(_not_a_name(value), "/v")
        return (value,), _ONE_VERSION
    if set(map(type, value)) - {str}:
        k = next((k for k, name in enumerate(value) if not isinstance(name, str)), None)
        if k is not None:
            raise InvalidFieldsError(_not_a_name(value[k]), pointer.format(k))
        value = [str.__str__(name) for name in value]  # of another class, such as numpy's
    distinct = {name: place for place, name in enumerate(dict.fromkeys(value))}
    wrong = next((name for name in distinct if not is_version_name(name)), None)
    if wrong is not None:
        raise InvalidFieldsError(_not_a_name(wrong), pointer.format(value.index(wrong)))
    if len(distinct) == 1 and len(value) > 1:
        return tuple(distinct), np.zeros(len(value), dtype=np.int64)
    index = np.fromiter(map(distinct.__getitem__, value), dtype=np.int64, count=len(value))
    return tuple(distinct), index


def _not_a_name(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 'is a number; a version is a string, such as "20211220"'
    return "is not a version: a string of 1 to 64 of A-Z a-z 0-9 . _ -"


def columns_of(
    users: Ids,
    items: Ids,
    categories: Categories,
    versions: tuple[tuple[str, ...], I64],
    max_rows: int,
    pointers: Pointers = POINTERS,
) -> Columns:
    """Bring the columns together; those of one element stand for every row."""
    names, index = versions
    category_ids, has_category = categories
    categories_n = 1 if has_category is None else len(has_category)
    lengths = len(users), len(items), categories_n, len(index)
    different = set(lengths) - {1}
    if len(different) > 1:
        lists = {name: length for name, length in zip("uicv", lengths, strict=True) if length != 1}
        unequal = ", ".join(f"{name} has {length}" for name, length in lists.items())
        raise InvalidFieldsError(
            f"lists differ in length: {unequal}", *(f"/{name}" for name in lists)
        )
    n = different.pop() if different else 1
    if n > max_rows:
        raise BatchTooLargeError(n, max_rows)
    if len(names) < 2:
        index = _ONE_VERSION[: len(names)]
    return Columns(n, users, items, category_ids, has_category, names, index, pointers)


def parts_of(value: object) -> tuple[Part, ...]:
    """Return the parts asked for, in row order."""
    if not isinstance(value, list) or not value:
        raise InvalidFieldsError(f"must be a list of one or more of {', '.join(PARTS)}", "/parts")
    for k, part in enumerate(value):
        if part not in PARTS:
            raise InvalidFieldsError(f"is not one of {', '.join(PARTS)}", f"/parts/{k}")
    return in_row_order(value)


def seconds_of(value: object, field: str) -> float:
    """Return a number of seconds that is finite, and 0 or more."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise InvalidFieldsError("must be a finite number of seconds, 0 or more", field)
    return float(value)


def choice_of(value: object, choices: Sequence[ChoiceT], field: str) -> ChoiceT:
    """Return the one of ``choices`` that a value is."""
    for choice in choices:
        if value == choice:
            return choice
    raise InvalidFieldsError(f"must be one of {', '.join(choices)}", field)
