"""Columns as the tensors of a question: numbers are one, strings are bytes and their offsets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gkc.arrays import I64, Array, Bools
from gkc.center.checks import NO_CATEGORIES, Categories, unfit_string
from gkc.errors import InvalidFieldsError
from gkc.strings import Ids, StringIds


def tensors_of(name: str, ids: Ids) -> dict[str, Array]:
    """Return the tensors that hold a column."""
    if isinstance(ids, StringIds):
        return {name: ids.data, f"{name}_offsets": ids.offsets}
    return {name: ids}


def id_tensor(name: str, tensors: Mapping[str, Array]) -> Ids:
    """Return the column that tensors hold.

    Raises
    ------
    InvalidFieldsError
        If they hold none, or a string is no id.
    """
    ids = _column(name, tensors)
    _require_fit(name, ids)
    return ids


def category_tensor(tensors: Mapping[str, Array]) -> Categories:
    """Return the column of categories that tensors hold, and where one is given.

    Raises
    ------
    InvalidFieldsError
        As `id_tensor`; or if what says where is no such tensor.
    """
    if "c" not in tensors:
        for name in ("c_offsets", "c_given"):
            if name in tensors:
                raise InvalidFieldsError("cannot be without a tensor c", f"/{name}")
        return NO_CATEGORIES
    if "c_given" not in tensors:
        ids = id_tensor("c", tensors)
        return ids, np.ones(len(ids), dtype=np.bool_)
    ids, is_given = _column("c", tensors), _given(tensors["c_given"])
    n = max(len(ids), len(is_given))
    if not {len(ids), len(is_given)} <= {1, n}:
        raise InvalidFieldsError(
            f"has {len(is_given)} elements for the {len(ids)} of c", "/c_given"
        )
    if len(ids) < n:
        ids = ids[np.zeros(n, dtype=np.int64)]
    is_given = np.ascontiguousarray(np.broadcast_to(is_given, n))
    _require_fit("c", ids, is_given)
    if not is_given.any():  # nothing tells of what type they are
        ids = np.zeros(n, dtype=np.int64)
    return ids, is_given


def _require_fit(name: str, ids: Ids, is_given: Bools | None = None) -> None:
    if isinstance(ids, StringIds) and (k := ids.first_unfit(is_given)) is not None:
        raise InvalidFieldsError(unfit_string(ids, k), f"/{name}/{k}")


def _given(tensor: Array) -> Bools:
    if tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise InvalidFieldsError(
            f"must be a U8 tensor of shape [n], not {_described(tensor)}", "/c_given"
        )
    if tensor.max(initial=0) > 1:
        wrong = int(tensor.argmax())
        raise InvalidFieldsError(
            f"must be 0 or 1 each, not {tensor[wrong]} as in element {wrong}, counted from 0",
            "/c_given",
        )
    return tensor.astype(np.bool_)


def _column(name: str, tensors: Mapping[str, Array]) -> Ids:
    tensor, offsets = tensors[name], tensors.get(f"{name}_offsets")
    if offsets is not None:
        return _strings(name, tensor, offsets)
    if tensor.dtype != np.int64 or tensor.ndim != 1:
        raise InvalidFieldsError(
            f"must be an I64 tensor of shape [n] or [1], or, of strings, a U8 tensor beside "
            f"{name}_offsets, not {_described(tensor)}",
            f"/{name}",
        )
    return tensor.astype(np.int64)


def _strings(name: str, tensor: Array, offsets: Array) -> Ids:
    if tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise InvalidFieldsError(
            f"must be a U8 tensor of bytes beside {name}_offsets, not {_described(tensor)}",
            f"/{name}",
        )
    if offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets):
        raise InvalidFieldsError(
            f"must be an I64 tensor of shape [n + 1] or [2], not {_described(offsets)}",
            f"/{name}_offsets",
        )
    column: I64 = offsets.astype(np.int64)
    if column[0] or column[-1] != len(tensor) or (column[1:] < column[:-1]).any():
        raise InvalidFieldsError(
            f"must ascend from 0 to the {len(tensor)} bytes of {name}", f"/{name}_offsets"
        )
    if len(column) == 1:  # nothing tells of what type they are
        return np.zeros(0, dtype=np.int64)
    return StringIds(tensor.astype(np.uint8), column)


def _described(tensor: Array) -> str:
    return f"{tensor.dtype} of shape {list(tensor.shape)}"
