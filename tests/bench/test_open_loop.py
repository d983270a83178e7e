"""Latencies are set against those of the same round, and a failed request counts for nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench import open_loop
from bench.arrivals import ANSWER, Answers
from bench.load import write_bodies
from bench.open_loop import (
    CEILING_STEPS,
    JUDGED,
    KEPT_MS,
    SHARES,
    Round,
    find_ceiling,
    measure,
    section,
)
from bench.processes import Server
from tests.bench.loads import a_load

CORES = os.sched_getaffinity(0)
NOBODY = Server("nobody", 0, 0)


def answers(latencies_ms: Sequence[float], late_ms: float = 0.0, status: int = 200) -> Answers:
    """Make up answers to requests that were due a second after each other."""
    records = np.zeros(len(latencies_ms), dtype=ANSWER)
    records["due_s"] = np.arange(len(records))
    records["latency_s"], records["late_s"] = np.array(latencies_ms) / 1000, late_ms / 1000
    records["status"] = status
    return Answers(records)


def a_round(scale: float, capacity: float) -> Round:
    """At share s, p50 is 10 s ms and p99 is 100 s ms, times the scale."""
    found = {
        share: answers([10 * scale * share] * 98 + [100 * scale * share] * 2, late_ms=scale)
        for share in SHARES
    }
    return Round(
        capacity=capacity,
        closed_rate=0.9 * scale,
        closed_p50=1.1 * scale,
        answers=found,
        ceiling=3000.0,
    )


ROUNDS = [a_round(1, 1000), a_round(2, 1500)]


def test_figures_are_of_the_judged_share_and_of_their_round() -> None:
    figures = {figure.name: list(figure.values) for figure in section(ROUNDS).figures}
    assert figures == {
        "p99 at 70% of capacity, B = 500, Poisson arrivals, against p50": pytest.approx([10, 10]),
        "the same of a perfect server, same arrivals": pytest.approx([1, 1]),  # nobody waits
        "p50 at 70% of capacity": pytest.approx([7, 14]),
        "p99 at 70% of capacity": pytest.approx([70, 140]),
        "capacity": [1000, 1500],
        "our generator closed against wrk: throughput": pytest.approx([0.9, 1.8]),
        "our generator closed against wrk: p50": pytest.approx([1.1, 2.2]),
        "rate that the generator keeps to, empty server, against the capacity": [3, 2],
        "the same": [3000, 3000],
        "generator late at 70% of capacity, p99, against p50": pytest.approx([1 / 7, 1 / 7]),
    }


def test_only_the_spread_of_the_service_is_judged() -> None:
    judged = {figure.name: figure.wanted for figure in section(ROUNDS).figures if figure.verdict}
    assert judged == {
        "p99 at 70% of capacity, B = 500, Poisson arrivals, against p50": "≤ 6 / ≤ 4.5"
    }


def test_curves_go_over_the_shares_of_the_capacity() -> None:
    latency, tail = section(ROUNDS).curves
    assert list(latency.lines) == ["p50", "p99"]
    assert list(tail.lines) == ["the service", "a perfect server"]
    for line in (*latency.lines.values(), *tail.lines.values()):
        assert [at for at, _ in line] == pytest.approx([30, 50, 70, 80, 90])
    assert [values[1] for _, values in latency.lines["p99"]] == pytest.approx(
        [200 * share for share in SHARES]
    )


def test_a_perfect_server_makes_those_wait_who_come_too_fast() -> None:
    slow = Round(0.5, 1.0, 1.0, {JUDGED: answers([1.0] * 101)}, 1.0)  # takes 2 s, one comes each
    assert slow.perfect_spread(JUDGED) == pytest.approx((2 + 99) / (2 + 50))


@pytest.mark.parametrize(
    ("kept_until", "ceiling"), [(0.0, 0.0), (1000.0, 1000.0), (1e6, 1000 * max(CEILING_STEPS))]
)
def test_the_ceiling_is_the_last_rate_that_was_kept_to(
    kept_until: float, ceiling: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offer(*_: object, rate: float, **__: object) -> Answers:
        return answers([1.0], late_ms=KEPT_MS * (0.5 if rate <= kept_until else 1.5))

    monkeypatch.setattr(open_loop, "load", lambda *_, **__: a_load(rate=1000))
    monkeypatch.setattr(open_loop, "offer", offer)
    assert find_ceiling(NOBODY, Path(), CORES, seconds=1, seed=0) == ceiling


def test_one_late_try_is_not_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    late = iter([2.0, 0.5] * len(CEILING_STEPS))
    monkeypatch.setattr(open_loop, "load", lambda *_, **__: a_load(rate=1000))
    monkeypatch.setattr(
        open_loop, "offer", lambda *_, **__: answers([1.0], late_ms=KEPT_MS * next(late))
    )
    found = find_ceiling(NOBODY, Path(), CORES, seconds=1, seed=0)
    assert found == 1000 * max(CEILING_STEPS)


@pytest.fixture
def _one_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "SHARES", (0.3,))
    monkeypatch.setattr(open_loop, "CEILING_STEPS", (0.1,))


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    return write_bodies([{}], tmp_path / "bodies")


@pytest.mark.slow
@pytest.mark.usefixtures("wrk", "_one_share")
def test_a_round_offers_a_share_of_what_wrk_finds(empty: Server, bodies: Path) -> None:
    found = measure(empty, empty, bodies, CORES, seconds=1, seed=1)
    assert found.capacity > 0
    assert list(found.answers) == [0.3]
    assert len(found.answers[0.3].records) > 0
    assert found.answers[0.3].failed == 0
    assert min(found.closed_rate, found.closed_p50) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("wrk", "_one_share")
def test_a_failed_request_ends_it(refusing: Server, empty: Server, bodies: Path) -> None:
    with pytest.raises(SystemExit, match="requests failed"):
        measure(refusing, empty, bodies, CORES, seconds=1, seed=1)
    with pytest.raises(SystemExit, match="requests failed"):
        find_ceiling(refusing, bodies, CORES, seconds=1, seed=1)
