"""What is published, built once: a source distribution, and from it a wheel."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.wheel.environments import run, unpack


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source distribution of this tree."""
    folder = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder])
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that is built from it, with this machine's compiler."""
    tree = unpack(sdist, tmp_path_factory.mktemp("tree"))
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=tree)
    (built,) = folder.iterdir()
    return built
