"""The client in this process is set against HTTP, copies and MGET of the same round."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import client
from bench.client import main, section
from bench.results import Section
from bench.world import Shape

TIMES = {
    "file": [50.0, 60.0],
    "async": [60.0, 90.0],
    "HTTP": [500.0, 300.0],
    "copy": [10.0, 10.0],
    "redis": [200.0, 200.0],
    "MGET": [400.0, 800.0],
}
ROWS = 5


def test_ratios_are_those_of_the_same_round() -> None:
    to_http, in_copies, to_mget, on_loop, *_ = section(TIMES, Shape(), rounds=2).figures
    assert to_http.values == pytest.approx([0.1, 0.2])
    assert in_copies.values == pytest.approx([5, 6])
    assert to_mget.values == pytest.approx([0.5, 0.25])
    assert on_loop.values == pytest.approx([0.12, 0.3])
    assert [figure.verdict for figure in (to_http, in_copies, to_mget)] == [
        "stretch",
        "stretch",
        "met",
    ]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROWS", "CALLS"):
        monkeypatch.setattr(client, name, ROWS)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("_small", "_same_cores")
def test_a_small_version_is_measured(kept: Callable[[str], Section]) -> None:
    main(rounds=1, users=5, items=30, save=True)
    figures = kept("client").figures
    assert len(figures) == 6
    assert all(len(figure.values) == 1 and figure.median > 0 for figure in figures)
