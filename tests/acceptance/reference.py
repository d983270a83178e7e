"""Section 3 of the contract, row by row and slowly, on the truth of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tests.acceptance.bundles import F64, Truth

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
KeyT = TypeVar("KeyT")


@dataclass(frozen=True)
class Expected:
    """One row: its vectors part by part (None where absent) and its four statuses."""

    user: F64 | None
    item: F64 | None
    user_category: F64 | None
    status: tuple[int, int, int, int]


def expect(truth: Truth, user: int, item: int, category: int | None) -> Expected:
    """Return what a row of the contract holds for one question."""
    k_u, of_user = _look(truth.users.get(user), truth.default_user)
    k_i, of_item = _look(truth.items.get(item), truth.default_item)
    if category is None:
        category = truth.categories.get(item, truth.default_category)
    k_uc, of_pair = None, 0
    if category is not None:
        k_uc, of_pair = _look(truth.pairs.get((user, category)), truth.default_pair)
    product = 0 if 0 in (of_user, of_item) else 1 if of_user == of_item == 1 else 2
    return Expected(k_u, k_i, k_uc, (of_user, of_item, product, of_pair))


def _look(vector: F64 | None, default: F64 | None) -> tuple[F64 | None, int]:
    if vector is not None:
        return vector, 1
    return (default, 2) if default is not None else (None, 0)


def stored(truth: Truth, dtype: str) -> Truth:
    """Return a truth whose models put out float32, as a generation of this type keeps it."""

    def kept(vector: F64 | None) -> F64 | None:
        return None if vector is None else _stored(vector.astype(np.float32), dtype)

    def all_kept(vectors: Mapping[KeyT, F64]) -> dict[KeyT, F64]:
        return {key: _stored(v.astype(np.float32), dtype) for key, v in vectors.items()}

    return replace(
        truth,
        users=all_kept(truth.users),
        items=all_kept(truth.items),
        pairs=all_kept(truth.pairs),
        default_user=kept(truth.default_user),
        default_item=kept(truth.default_item),
        default_pair=kept(truth.default_pair),
    )


def _stored(vector: F32, dtype: str) -> F64:
    """Round as section 3, "Numbers", says."""
    if dtype == "f16":
        return vector.astype(np.float16).astype(np.float64)
    if dtype == "int8":
        scale = np.abs(vector).max() / np.float32(127)
        codes = np.rint(vector / scale) if scale else np.zeros_like(vector)
        # An integer has no negative zero.
        kept: F32 = codes.astype(np.int8).astype(np.float32) * scale
        return kept.astype(np.float64)
    return vector.astype(np.float64)


def rows_of(expected: Sequence[Expected], truth: Truth) -> tuple[F32, U8]:
    """Lay rows in float32, to the bit, of what is stored; return them and their statuses."""
    absent, absent_pair = np.zeros(truth.dim), np.zeros(truth.category_dim)
    k_u = _float32([absent if e.user is None else e.user for e in expected], truth.dim)
    k_i = _float32([absent if e.item is None else e.item for e in expected], truth.dim)
    k_uc = [absent_pair if e.user_category is None else e.user_category for e in expected]
    status = np.array([e.status for e in expected], dtype=np.uint8).reshape(-1, 4)
    product = k_u * k_i
    product[status[:, 2] == 0] = 0
    return np.hstack([k_u, k_i, product, _float32(k_uc, truth.category_dim)]), status


def _float32(vectors: list[F64], width: int) -> F32:
    return np.array(vectors, dtype=np.float32).reshape(-1, width)


def unfactor(tensors: Mapping[str, npt.NDArray[Any]], parts: Sequence[str]) -> F32:
    """Lay out factored tensors as a client of ours would, by the contract's words alone."""
    vectors = {k: v.astype(np.float32) for k, v in tensors.items() if v.dtype.kind == "f"}
    columns: dict[str, F32] = {}
    for name in ("user", "user_category"):
        if name in vectors:
            assert tensors[f"{name}_index"].dtype == np.int32
            columns[name] = vectors[name][tensors[f"{name}_index"]]
    if "item" in vectors:
        columns["item"] = vectors["item"]
    if "user_item" in parts:
        columns["user_item"] = columns["user"] * columns["item"]
        columns["user_item"][tensors["status"][:, 2] == 0] = 0
    return np.hstack([columns[part] for part in parts])


def check_row(row: F32, status: list[int], expected: Expected, truth: Truth, dtype: str) -> None:
    """Check an answered row: rtol 1e-5, atol 1e-6, then the rounding of the stored type."""
    assert tuple(status) == expected.status
    d = truth.dim
    k_u, k_i, product, k_uc = np.split(row, [d, 2 * d, 3 * d])
    for got, want in ((k_u, expected.user), (k_i, expected.item), (k_uc, expected.user_category)):
        if want is None:
            assert (got.view(np.uint32) == 0).all(), "an absent part is +0.0"
        else:
            assert (np.abs(got - want) <= _allowed(want, dtype)).all()
    if expected.status[2] == 0:
        assert (product.view(np.uint32) == 0).all()
    else:
        assert (product == k_u * k_i).all(), "the product is that of the stored vectors, in float32"


def _allowed(want: F64, dtype: str) -> F64:
    model = 1e-6 + 1e-5 * np.abs(want)
    if dtype == "f32":
        return model
    if dtype == "f16":
        # Half a unit in the last place of a half: 11 significant bits, subnormals 2**-24 apart.
        return model + np.maximum(np.abs(want) * 2.0**-11, 2.0**-25)
    half_step = float(np.abs(want).max()) / 127 * 0.5
    return model + half_step * (1 + 1e-3)
