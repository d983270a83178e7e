"""Section 3 of the contract, row by row and slowly, on the truth of a bundle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.acceptance.bundles import F64, Truth

F32 = npt.NDArray[np.float32]


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
