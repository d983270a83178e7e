"""Compiled loops for tests of what can be done either way."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from gkc.kernels import Kernels, compile_kernels, kernels, use

WAYS = ["numpy", "numba"] if find_spec("numba") else ["numpy"]

collect_ignore = [] if find_spec("numba") else ["service/test_acceleration.py"]


@pytest.fixture(scope="session")
def compiled() -> Kernels:
    """Return the compiled loops."""
    return compile_kernels()


@pytest.fixture(scope="module", params=WAYS)
def either_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a module's tests by numpy alone, and once more by the compiled loops."""
    before = kernels()
    use(request.getfixturevalue("compiled") if request.param == "numba" else None)
    yield
    use(before)
