"""Compiled loops do in every bit what numpy does, or none of them is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gkc import kernels as loops_module
from gkc.kernels import Kernels, kernels, use
from gkc.service import acceleration
from gkc.service.acceleration import accelerate

Wrong = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a loop that is wrong somewhere from the right one."""
PRODUCT = 2


@pytest.fixture(autouse=True)
def by_numpy() -> Iterator[None]:
    before = kernels()
    use(None)
    yield
    use(before)


def compiled_by(monkeypatch: pytest.MonkeyPatch, compiler: Callable[[], Kernels]) -> None:
    monkeypatch.setattr(acceleration, "compile_kernels", compiler)


def test_loops_that_agree_are_used(monkeypatch: pytest.MonkeyPatch, compiled: Kernels) -> None:
    compiled_by(monkeypatch, lambda: compiled)
    assert accelerate() == ""
    assert kernels() is compiled


def changing(change: Callable[..., None]) -> Wrong:
    """Let a loop do its work, and change what it wrote."""

    def wrong(right: Callable[..., Any]) -> Callable[..., Any]:
        def loop(*args: Any) -> Any:
            result = right(*args)
            change(*args)
            return result

        return loop

    return wrong


def changing_products(change: Callable[[Any], Any]) -> Wrong:
    def changed(user: Any, _: Any, __: Any, ___: Any, ____: Any, columns: Any, out: Any) -> None:
        if columns[PRODUCT] >= 0:
            at = slice(columns[PRODUCT], columns[PRODUCT] + user.shape[1])
            out[:, at] = change(out[:, at])

    return changing(changed)


def truncated(products: Any) -> Any:
    lost = 0xFFFE if products.dtype == np.float16 else 0xFFFFFFFE
    unsigned = np.dtype(f"u{products.itemsize}").type
    return (np.ascontiguousarray(products).view(unsigned) & unsigned(lost)).view(products.dtype)


def _one_item_for_all(*args: Any) -> None:
    args[-1][1:] = args[-1][:1]


def _beyond_its_columns(*args: Any) -> None:
    args[-1][:, 0] = 0


def _no_id_unknown(*args: Any) -> None:
    args[-1][args[-1] < 0] = 0


def _a_category_less(*args: Any) -> None:
    args[-2][-1] = 0


def _flags_turned(*args: Any) -> None:
    np.logical_not(args[-1], out=args[-1])


def _an_id_less(*args: Any) -> None:
    args[-4][-1] = 0


def _last_appearances(values: Any, _: Any, __: Any, first: Any, index: Any) -> None:
    first[: index.max() + 1] = [np.flatnonzero(index == k)[-1] for k in range(index.max() + 1)]


def _all_the_same(*args: Any) -> None:
    args[-1][:] = 0


def _of_the_first_user(offsets: Any, _: Any, users: Any, __: Any, places: Any) -> None:
    places[places >= 0] -= np.where(len(users) > 1, offsets[1], 0)


def trusting(right: Callable[..., Any]) -> Callable[..., Any]:
    """Make a loop that never says that something lies outside."""

    def loop(*args: Any) -> bool:
        right(*args)
        return True

    return loop


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("lay_rows", changing_products(truncated)),
        ("lay_rows", changing_products(lambda products: products + products.dtype.type(0))),
        (
            "lay_rows",
            changing_products(lambda p: np.where(np.abs(p) < 6.1e-5, p * p.dtype.type(0), p)),
        ),
        ("lay_rows", changing(_one_item_for_all)),
        ("lay_rows", changing(_beyond_its_columns)),
        ("find_rows", changing(_no_id_unknown)),
        ("find_rows", trusting),
        ("take_rows", changing(_a_category_less)),
        ("take_rows", changing(_flags_turned)),
        ("take_rows", trusting),
        ("take_rows", changing(_an_id_less)),
        ("first_appearances", changing(_last_appearances)),
        ("first_appearances", changing(_all_the_same)),
        ("find_pairs", changing(_of_the_first_user)),
    ],
)
def test_one_that_differs_is_noticed_and_none_used(
    name: str, wrong: Wrong, monkeypatch: pytest.MonkeyPatch, compiled: Kernels
) -> None:
    changed = replace(compiled, **{name: wrong(getattr(compiled, name))})
    compiled_by(monkeypatch, lambda: changed)
    with np.errstate(all="ignore"):
        assert f"compiled {name} does not equal" in accelerate()
    assert kernels() is None


def test_without_numba_numpy_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(loops_module, "import_module", absent)
    assert "pip install 'gkc[fast]'" in accelerate()
    assert kernels() is None


def test_a_compiler_that_fails_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Kernels:
        raise RuntimeError("unknown processor")

    compiled_by(monkeypatch, failing)
    assert "unknown processor" in accelerate()
    assert kernels() is None
