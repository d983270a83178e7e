"""The client over HTTP is set against the bare exchange of the same round."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import http_client
from bench.http_client import main, section
from bench.results import Section
from bench.world import Shape

TIMES = {
    "Client": [110.0, 200.0],
    "http.client": [100.0, 200.0],
    "Client, 16": [50.0, 50.0],
    "http.client, 16": [100.0, 50.0],
    "AsyncClient": [120.0, 240.0],
    "streams": [100.0, 200.0],
    "AsyncClient, 16": [100.0, 100.0],
    "streams, 16": [100.0, 100.0],
    "late": [80.0, 90.0],
}


def test_ratios_are_those_of_the_same_round() -> None:
    figures = section(TIMES, Shape(), rounds=2).figures
    assert [list(figure.values) for figure in figures[:4]] == [
        pytest.approx([1.1, 1.0]),
        pytest.approx([0.5, 1.0]),
        pytest.approx([1.2, 1.2]),
        pytest.approx([1.0, 1.0]),
    ]
    assert [figure.verdict for figure in figures[:4]] == ["stretch", "stretch", "missed", "stretch"]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("ROWS", 5), ("CALLS", 20), ("DEADLINES", 2)):
        monkeypatch.setattr(http_client, name, few)


@pytest.mark.slow
@pytest.mark.usefixtures("_small", "_same_cores")
def test_a_small_version_is_measured(kept: Callable[[str], Section]) -> None:
    main(rounds=1, users=5, items=30, save=True)
    figures = kept("http_client").figures
    assert len(figures) == 7
    assert all(len(figure.values) == 1 and figure.median > 0 for figure in figures)
