"""Points of a curve are measured in one run, and each is asked for what it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from bench import growth
from bench.growth import (
    ALL_CONCURRENCY,
    ALL_DISTINCT,
    ALL_ROWS,
    Runs,
    drawn,
    main,
    section,
)
from bench.results import Section
from tests.bench.loads import a_load


def some_runs() -> Runs:
    """Make up one round: p50 grows as the hundredth part of what it depends on, from 1 on."""
    curves = {
        **dict.fromkeys(("rows", "factored"), ALL_ROWS),
        "items": (10_000, 100_000, 1_000_000),
        "versions": (1, 5),
        "users": ALL_DISTINCT,
        "under way": ALL_CONCURRENCY,
    }
    return {
        (name, at): [a_load(p50_ms=1 + at / 100, rate=9999 - abs(at - 16))]
        for name, all_points in curves.items()
        for at in all_points
    }


def test_targets_are_for_items_and_versions() -> None:
    found = section(some_runs(), 1, 1)
    judged = {figure.name: figure for figure in found.figures if figure.verdict}
    assert {name: figure.bounds for name, figure in judged.items()} == {
        "p50 with 1,000,000 items to 10,000": "≤ 1.3 / ≤ 1.15",
        "p50 where 5 versions are served to where one is": "≤ 1.1 / ≤ 1.05",
    }
    assert [figure.median for figure in judged.values()] == pytest.approx(
        [10001 / 101, 1.05 / 1.01]
    )


def test_titles_say_what_is_to_be_seen() -> None:
    titles = [curve.title for curve in section(some_runs(), 1, 1).curves]
    assert titles == [
        "100 times the items, 99.02 times the p50",
        "500 rows take 5.9 times as long as one",
        "500 users in 500 rows take 5.9 times one's",
        "A worker answers most with 16 under way: then requests only wait",
    ]


def test_requests_of_very_many_rows_are_fewer() -> None:
    assert len(drawn(10_000)) == 50
    assert len(drawn(1)) == growth.BODIES
    assert drawn(1, v="other")[0]["v"] == "other"


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk")
def test_small_versions_are_measured(
    kept: Callable[[str], Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataclasses.replace(growth.SMALL, users=20, items=30, pairs=3, categories=4, dim=8)
    monkeypatch.setattr(growth, "SMALL", few)
    monkeypatch.setattr(growth, "ROWS", 5)
    for name in ("ALL_ROWS", "ALL_DISTINCT", "ALL_CONCURRENCY"):
        monkeypatch.setattr(growth, name, (1, 5))
    monkeypatch.setattr(growth, "ALL_ITEMS", (30, 90))
    monkeypatch.setattr(growth, "OTHER_VERSIONS", ("second",))
    main(rounds=1, seconds=1, save=True)
    found = kept("growth")
    assert len(found.curves) == 4
    assert all(figure.median > 0 for figure in found.figures)
