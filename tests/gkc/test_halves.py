"""The compiled multiplication is numpy's in every bit, or it is not used."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc import halves
from gkc.halves import Halves, accelerate, equals_numpy, multiply


def some_halves(seed: int, shape: tuple[int, int]) -> Halves:
    bits = np.random.default_rng(seed).integers(0, 1 << 16, shape, dtype=np.uint16)
    found = bits.view(np.float16)
    return np.where(np.isnan(found), np.float16(0), found)


@pytest.fixture(scope="module", params=["numpy", "numba"])
def multiplication(request: pytest.FixtureRequest) -> Iterator[None]:
    """Multiply by the loop of this name while the module's tests with it run."""
    if request.param == "numba":
        assert accelerate() == ""
    yield
    halves._multiply = halves._by_numpy


@pytest.mark.usefixtures("multiplication")
@given(
    n=st.integers(1, 70),
    dim=st.integers(1, 40),
    one_user=st.booleans(),
    one_item=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_products_are_those_of_floats_rounded_once(
    n: int, dim: int, seed: int, *, one_user: bool, one_item: bool
) -> None:
    user = some_halves(seed, (1 if one_user else n, dim))
    item = some_halves(seed + 1, (1 if one_item else n, dim))
    user.setflags(write=False)
    rows = np.ones((n, 3 * dim), dtype=np.float16)
    with np.errstate(all="ignore"):
        multiply(user, item, rows[:, dim : 2 * dim])
        expected = (user.astype(np.float32) * item.astype(np.float32)).astype(np.float16)
    expected = np.broadcast_to(expected, (n, dim))
    found = rows[:, dim : 2 * dim]
    same = (found.view(np.uint16) == expected.view(np.uint16)) | np.isnan(expected)
    assert same.all()
    assert (rows[:, :dim] == 1).all()
    assert (rows[:, 2 * dim :] == 1).all()


def _truncating(user: Halves, item: Halves, out: Halves) -> None:
    product = user.astype(np.float32) * item.astype(np.float32)
    out[...] = (product.view(np.uint32) & 0xFFFFE000).view(np.float32)


def _without_sign_of_zero(user: Halves, item: Halves, out: Halves) -> None:
    out[...] = user * item + np.float16(0)


def _flushing_subnormal(user: Halves, item: Halves, out: Halves) -> None:
    product = user * item
    out[...] = np.where(np.abs(product) < 6.1e-5, product * np.float16(0), product)


def _of_the_first_user(user: Halves, item: Halves, out: Halves) -> None:
    out[...] = user[:1] * item


def _beyond_its_columns(user: Halves, item: Halves, out: Halves) -> None:
    out[...] = user * item
    out.base[:, 0] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    "wrong",
    [
        _truncating,
        _without_sign_of_zero,
        _flushing_subnormal,
        _of_the_first_user,
        _beyond_its_columns,
    ],
)
def test_a_multiplication_that_differs_is_noticed(
    wrong: halves.Multiply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halves, "_multiply", halves._by_numpy)
    assert equals_numpy(halves._by_numpy)
    assert not equals_numpy(wrong)
    monkeypatch.setattr(halves, "_compile", lambda: wrong)
    assert "does not equal" in accelerate()
    assert halves._multiply is halves._by_numpy


def test_without_numba_numpy_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(halves, "_multiply", halves._by_numpy)
    monkeypatch.setattr(halves, "import_module", absent)
    assert "pip install 'gkc[fast]'" in accelerate()
    assert halves._multiply is halves._by_numpy


def test_a_compiler_that_fails_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> halves.Multiply:
        raise RuntimeError("unknown processor")

    monkeypatch.setattr(halves, "_multiply", halves._by_numpy)
    monkeypatch.setattr(halves, "_compile", failing)
    assert "unknown processor" in accelerate()
    assert halves._multiply is halves._by_numpy
