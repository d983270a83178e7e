"""The worst of every round is judged, and what failed is told by whom it was beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import attacks
from bench.arrivals import ANSWER, Answers
from bench.attacks import QUIET, WITHOUT_WORK, Burst, attacking, measure, measure_burst, section
from bench.load import Ask, write_bodies
from bench.processes import Server
from bench.stage import Stage
from bench.world import World

IDLE, NEVER = WITHOUT_WORK
OTHER = "8 MB of lists"


def answers(latency_ms: float, status: int = 200) -> Answers:
    records = np.zeros(10, dtype=ANSWER)
    records["latency_s"], records["status"] = latency_ms / 1000, 200
    records["status"][0] = status
    return Answers(records)


def test_the_worst_of_each_round_is_judged() -> None:
    found = {
        QUIET: [answers(1), answers(2)],
        IDLE: [answers(2), answers(2)],
        NEVER: [answers(3), answers(3)],
        OTHER: [answers(40, status=503), answers(2)],
    }
    page = section(found, Burst(peak_mb=250, after_mb=10, statuses={200: 2, 503: 98}))
    figures = {figure.name: list(figure.values) for figure in page.figures}
    assert figures["one-row requests that failed, at most"] == [1, 0]
    assert figures["their p99 beside the worst attack"] == pytest.approx([40, 3])
    assert figures[f"p99 beside {IDLE}, to nobody"] == pytest.approx([2, 1])
    assert figures[f"p99 beside {NEVER}, to nobody"] == pytest.approx([3, 1.5])
    assert page.notes == [
        f"Beside {OTHER} one-row requests were answered: 19 by 200, 1 by 503.",
        "The 100 questions of the burst: 2 by 200, 98 by 503.",
    ]


@pytest.mark.redis
@pytest.mark.slow
def test_a_client_asks_while_an_attack_goes_on(
    served: tuple[World, Server], stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge, service = served
    monkeypatch.setattr(attacks, "REST_SECONDS", 1.0)
    asked = Ask(service, write_bodies(knowledge.questions(1, 5, seed=0), tmp_path / "bodies"))
    assert measure(asked, "slow heads", stage.other_cores, seconds=0.2).failed == 0


def test_an_attack_that_does_not_begin_ends_it(stage: Stage, empty: Server) -> None:
    with (
        pytest.raises(SystemExit, match="did not begin"),
        attacking("nothing", empty, stage.other_cores),
    ):
        pass


@pytest.mark.redis
@pytest.mark.slow
def test_a_burst_is_answered(served: tuple[World, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("BURST", 2), ("BURST_ROWS", 20), ("AFTER_SECONDS", 0)):
        monkeypatch.setattr(attacks, name, few)
    assert measure_burst(served[1]).statuses == {200: 2}
