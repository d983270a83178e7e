"""docs/drift.md: the verdict is that of the figures, and the page that of the committed JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keep.drift.page import PAGE, RESULTS, page, verdict


def results(removed: float | None) -> dict[str, Any]:
    def row(name: str, cost: float) -> dict[str, Any]:
        interval = [cost - 0.01, cost + 0.01]
        return {"name": name, "gauc": [0.6, 0.62], "cost": cost, "interval": interval}

    mapped = row("fresh seed, ridge map", 0.002) | {
        "removed": {"value": removed, "interval": [None, None]}
    }
    rows = [row("warm start", 0.003), row("fresh seed", 0.1), mapped]
    return {
        "log": {"name": "made up", "checksum": "0" * 64},
        "setting": {
            "testing": {"train_days": [8, 9], "test_day": 10, "version": 4},
            "choosing": {"test_day": 9},
        },
        "seeds": [1, 2],
        "lags": {"1": rows},
        "command": "keep drift",
        "seconds": 60.0,
        "machine": "a machine",
        "date": "2026-01-01",
        "commit": "abc",
    }


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (0.98, "98%, as wanted"),
        (0.4, "40%, **not** as wanted"),
        (None, "there is no such cost"),
    ],
)
def test_the_verdict_is_that_of_the_figures(removed: float | None, said: str) -> None:
    lines = verdict(results(removed)).splitlines()
    assert len(lines) == 3
    assert "+0.0030" in lines[0]
    assert "+0.1000" in lines[1]
    assert "0.6100" in lines[1]
    assert said in lines[2]


def test_the_page_has_the_verdict_before_the_tables() -> None:
    text = page(results(0.98))
    assert text.startswith("# Serving another version than the trained one\n\n")
    assert text.index("as wanted") < text.index("## k = 1")


def test_the_page_is_committed_with_its_results() -> None:
    assert PAGE.exists() == RESULTS.exists()
    if RESULTS.exists():
        committed = json.loads(RESULTS.read_text(encoding="utf-8"))
        assert PAGE.read_text(encoding="utf-8") == page(committed)
