"""What tests of benchmarks share: wrk, servers to ask, and what a benchmark kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import results
from bench.processes import Server, free_port, our_service, reference, serving
from bench.results import Section, read_section
from bench.world import Shape, World, world

SHAPE = Shape(users=5, items=30, pairs=3, categories=4, dim=8)


@pytest.fixture
def wrk() -> None:
    """Skip where there is no wrk."""
    if shutil.which("wrk") is None:
        pytest.skip("no wrk: install the package `wrk`")


@pytest.fixture(scope="session")
def empty() -> Iterator[Server]:
    """Yield the server that answers whatever is posted to /knowledge with nothing."""
    port = free_port()
    with serving("empty", reference("empty", port), port, os.sched_getaffinity(0)) as server:
        yield server


@pytest.fixture(scope="session")
def refusing() -> Iterator[Server]:
    """Yield a server that answers ``{}`` with 422."""
    port = free_port()
    command = reference("plain", port, "--redis", "redis://nowhere")  # it gets no further
    with serving("refusing", command, port, os.sched_getaffinity(0)) as server:
        yield server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Server]]:
    """Yield a small version, and the service that serves it with a cache of users."""
    folder, port, cores = tmp_path_factory.mktemp("world"), free_port(), os.sched_getaffinity(0)
    with world(folder, SHAPE, cores) as knowledge:
        command, cache = our_service(knowledge.url, port), {"GKC_USER_CACHE_MB": "1"}
        with serving("gkc serve", command, port, cores, "/readyz", cache) as server:
            yield knowledge, server


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Section]:
    """Return what reads the section that a benchmark keeps, which is not the page's meanwhile."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return lambda name: read_section(tmp_path / f"{name}.json")


@pytest.fixture
def _same_cores() -> Iterator[None]:
    """Give this process its cores back afterwards."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)
