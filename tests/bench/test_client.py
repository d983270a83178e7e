"""The client is set against bare exchanges, copies and MGET of the same round."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import client, exchange, http_client
from bench.client import main, section
from bench.results import Section
from bench.world import Shape

TIMES = {
    "file": [50.0, 60.0],
    "async": [60.0, 90.0],
    "copy": [10.0, 10.0],
    "redis": [200.0, 200.0],
    "MGET": [400.0, 800.0],
    "import": [100_000.0, 150_000.0],
    "Client, 1": [550.0, 300.0],
    "http.client, 1": [500.0, 300.0],
    "Client, 16": [50.0, 50.0],
    "http.client, 16": [100.0, 50.0],
    "AsyncClient, 1": [120.0, 240.0],
    "streams, 1": [100.0, 200.0],
    "AsyncClient, 16": [100.0, 100.0],
    "streams, 16": [100.0, 100.0],
    "late": [80.0, 90.0],
}


def test_ratios_are_those_of_the_same_round() -> None:
    figures = [figure for figure in section(TIMES).figures if figure.verdict]
    assert [figure.values for figure in figures] == [
        pytest.approx(values)
        for values in (
            [0.1, 0.2],
            [5, 6],
            [0.5, 0.25],
            [1.1, 1.0],
            [0.5, 1.0],
            [1.2, 1.2],
            [1.0, 1.0],
            [0.1, 0.15],
        )
    ]
    verdicts = [figure.verdict for figure in figures]
    assert verdicts == [*["stretch"] * 2, "met", *["stretch"] * 2, "missed", "stretch", "met"]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SHAPE", Shape(users=5, items=30))
    monkeypatch.setattr(exchange, "ROWS", 5)
    monkeypatch.setattr(exchange, "CALLS", 20)
    monkeypatch.setattr(http_client, "DEADLINES", 2)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("_small", "_same_cores")
def test_a_small_version_is_measured(kept: Callable[[str], Section]) -> None:
    main(rounds=1, save=True)
    assert all(figure.median > 0 for figure in kept("client").figures)
