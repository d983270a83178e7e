"""Latencies are set against those of the same round, and a failed request counts for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench import open_loop
from bench.arrivals import ANSWER, Answers
from bench.load import Ask, write_bodies
from bench.open_loop import JUDGED, SHARES, Round, measure, section
from bench.processes import Server
from bench.stage import Stage


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
        answers=found,
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
        "the generator itself was late at 70% of capacity, p99": pytest.approx([1, 2]),
    }


def test_only_the_spread_of_the_service_is_judged() -> None:
    judged = {figure.name: figure.bounds for figure in section(ROUNDS).figures if figure.verdict}
    assert judged == {
        "p99 at 70% of capacity, B = 500, Poisson arrivals, against p50": "≤ 6 / ≤ 4.5"
    }


def test_the_curve_goes_over_the_shares_of_the_capacity() -> None:
    (curve,) = section(ROUNDS).curves
    assert curve.title == "99 of 100 answers at 70% of capacity take 105.0 ms or less"
    assert list(curve.lines) == ["p50", "p99"]
    for line in curve.lines.values():
        assert [at for at, _ in line] == pytest.approx([30, 50, 70, 80, 90])
    assert [values[1] for _, values in curve.lines["p99"]] == pytest.approx(
        [200 * share for share in SHARES]
    )


def test_a_perfect_server_makes_those_wait_who_come_too_fast() -> None:
    slow = Round(0.5, {JUDGED: answers([1.0] * 101)})  # takes 2 s, one comes each
    assert slow.perfect_spread(JUDGED) == pytest.approx((2 + 99) / (2 + 50))


@pytest.fixture
def _one_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "SHARES", (0.3,))


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    return write_bodies([{}], tmp_path / "bodies")


@pytest.mark.slow
@pytest.mark.usefixtures("wrk", "_one_share")
def test_a_round_offers_a_share_of_what_wrk_finds(
    stage: Stage, empty: Server, bodies: Path
) -> None:
    found = measure(stage, Ask(empty, bodies), seconds=1, seed=1)
    assert found.capacity > 0
    assert list(found.answers) == [0.3]
    assert len(found.answers[0.3].records) > 0
    assert found.answers[0.3].failed == 0
