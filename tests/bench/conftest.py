"""What tests of benchmarks share: wrk, servers to ask, and what a benchmark kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import results
from bench.checkouts import ROOT
from bench.processes import Server
from bench.results import Section, read_section
from bench.stage import Stage
from bench.world import World
from tests.bench.loads import TINY
from tests.redis_server import find_redis_server


@pytest.fixture
def wrk() -> None:
    """Skip where there is no wrk."""
    if shutil.which("wrk") is None:
        pytest.skip("no wrk: install the package `wrk`")


@pytest.fixture(scope="session", autouse=True)
def _redis_on_path() -> Iterator[None]:
    """Let benchmarks find the Redis server that tests have."""
    binary = find_redis_server()
    with pytest.MonkeyPatch.context() as patch:
        if binary is not None:
            patch.setenv("PATH", str(binary.parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Yield a stage for servers that all tests share."""
    with Stage() as found:
        yield found


@pytest.fixture(scope="session")
def empty(stage: Stage) -> Server:
    """Return the server that answers whatever is posted to /knowledge with nothing."""
    return stage.reference("empty")


@pytest.fixture(scope="session")
def refusing(stage: Stage) -> Server:
    """Return a server that answers ``{}`` with 422."""
    return stage.reference("plain", "--redis", "redis://nowhere")  # it gets no further


@pytest.fixture(scope="session")
def served(stage: Stage) -> tuple[World, Server]:
    """Return a small version, and the service that serves it."""
    knowledge = stage.world(TINY)
    return knowledge, stage.serve(knowledge.url)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Section]:
    """Return what reads the section that a benchmark keeps, which is not the page's meanwhile."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return lambda name: read_section(tmp_path / f"{name}.json")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a checkout with the code of this one."""
    for name in ("gkc", "exporter"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    return tmp_path


@pytest.fixture
def _same_cores() -> Iterator[None]:
    """Give this process its cores back afterwards."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)
