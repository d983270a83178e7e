"""Compiled loops for tests of what can be done either way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gkc.kernels import Kernels, compile_kernels, kernels, use


@pytest.fixture(scope="session")
def compiled() -> Kernels:
    """Return the compiled loops."""
    return compile_kernels()


@pytest.fixture(scope="module", params=["numpy", "numba"])
def either_way(request: pytest.FixtureRequest, compiled: Kernels) -> Iterator[None]:
    """Run a module's tests by numpy alone, and once more by the compiled loops."""
    before = kernels()
    use(compiled if request.param == "numba" else None)
    yield
    use(before)
