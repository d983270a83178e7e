"""The capacity is what is served in time; beyond it, goodput is set against what could be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import overload
from bench.arrivals import ANSWER, Answers
from bench.load import Ask, Load, write_bodies
from bench.overload import Round, find_capacity, is_carried, late, measure, section
from bench.processes import Server
from bench.stage import Stage
from bench.world import World


def answers(served: int, refused: int = 0, latency_ms: float = 1.0) -> Answers:
    records = np.zeros(served + refused, dtype=ANSWER)
    records["latency_s"] = latency_ms / 1000
    records["status"][:served], records["status"][served:] = 200, 503
    return Answers(records)


def test_nearly_all_is_to_be_served_in_time() -> None:
    assert is_carried(answers(99, 1, latency_ms=49))
    assert not is_carried(answers(98, 2))
    assert not is_carried(answers(100, latency_ms=51))
    assert not is_carried(answers(0, 5))


def test_the_capacity_is_found_between_what_is_carried_and_what_is_not() -> None:
    def offered(rate: float) -> Answers:
        return answers(100, refused=int(rate > 700) * 2)

    assert find_capacity(offered, wrk_rate=1000) == pytest.approx(700, abs=16)
    with pytest.raises(SystemExit, match="are too many"):
        find_capacity(lambda _: answers(0, 1), wrk_rate=1000)


def test_an_answer_is_late_by_its_deadline_and_not_by_the_generator() -> None:
    found = answers(3, latency_ms=1049)
    assert late(found) == 0
    found.records["latency_s"][:2] = 1.2
    found.records["late_s"][0] = 0.2
    assert late(found) == 1


def test_goodput_is_set_against_a_worker_that_only_serves_and_refuses() -> None:
    found = Round(
        wrk_rate=110,
        capacity=100,
        cost=0.1,
        busy=answers(10, latency_ms=10),
        easy=answers(10, latency_ms=5),
        greedy=Load(
            requests=300,
            seconds=2,
            failed=180,
            bytes_read=0,
            p50_ms=9,
            p99_ms=9,
            cpu_ms=1,
            page_faults=0,
        ),
        beyond={2: answers(180, 220, latency_ms=20), 3: answers(150, 450, latency_ms=40)},
        seconds=2,
        not_refused=1,
        recovered=answers(10, latency_ms=6),
    )
    figures = {figure.name: figure.median for figure in section([found]).figures}
    assert figures["goodput at 2 times the capacity, of the capacity"] == pytest.approx(0.9)
    assert found.margin(2) == pytest.approx(0.9 - 0.8 / 0.9)
    assert found.margin(3) == pytest.approx(0.75 - 0.7 / 0.9)
    assert figures["p99 of what is served at 3 times the capacity to that at 70%"] == (
        pytest.approx(4)
    )
    assert figures["p99 at 50%, 2 s after that, to before"] == pytest.approx(1.2)
    assert figures["served to 512 greedy callers, of the capacity"] == pytest.approx(0.6)
    assert figures["not served and not refused as overloaded"] == 1


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk")
def test_a_round_goes_beyond_the_capacity(
    served: tuple[World, Server], stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, small in (("HALVINGS", 1), ("SERVED", 0.0), ("P99_MS", 1e9), ("CONNECTIONS", 8)):
        monkeypatch.setattr(overload, name, small)
    monkeypatch.setattr(overload, "RECOVERY_SECONDS", 0)
    knowledge, service = served
    bodies = write_bodies(knowledge.questions(5, 5, seed=0), tmp_path / "bodies")
    found = measure(stage, Ask(service, bodies), seconds=0.2, seed=0)
    assert found.capacity > 0
    assert all(len(each.records) for each in (found.busy, *found.beyond.values()))
