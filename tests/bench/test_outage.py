"""What is answered without Redis is set against the hit rate before, and compared bit for bit."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from bench import outage
from bench.arrivals import ANSWER, Answers
from bench.bundles import USER_ID_STEP
from bench.load import Ask
from bench.outage import Outage, hit_rate, section, sums_of, take_away, zipf_questions
from bench.processes import Server
from bench.stage import Stage
from bench.world import World
from tests.bench.loads import TINY


def answers(served: int, refused: int, latency_ms: float) -> Answers:
    records = np.zeros(served + refused, dtype=ANSWER)
    records["latency_s"][:served], records["latency_s"][served:] = latency_ms / 1000, 0.5
    records["status"][:served], records["status"][served:] = 200, 503
    return Answers(records)


def test_users_follow_the_law() -> None:
    bodies = zipf_questions(TINY, 1000, seed=0)
    users = [body["u"] // USER_ID_STEP for body in bodies]
    counts = np.bincount(users, minlength=TINY.users)
    assert (np.diff(counts) < 0).all()
    assert all(body["allow_stale"] == 300 and len(body["i"]) == 50 for body in bodies)


def test_a_hit_rate_is_of_what_was_counted_meanwhile() -> None:
    assert hit_rate(np.array([10.0, 10.0]), np.array([40.0, 20.0])) == 0.75


def test_answers_are_set_against_the_hit_rate_before() -> None:
    found = Outage(0.8, answers(10, 0, latency_ms=2), answers(7, 3, latency_ms=3), wrong=1)
    figures = {each.name: each.median for each in section({8: 0.5}, {"killed": found}, 60).figures}
    assert figures["killed: answered, above the hit rate before"] == pytest.approx(-0.1)
    assert figures["killed: p99 of what is answered, to usual"] == pytest.approx(1.5)
    assert figures["killed: wrong answers"] == 1
    assert figures["killed: longest wait"] == pytest.approx(500)
    assert figures["hit rate with 8 MB a worker"] == 0.5


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUIET_SECONDS", "COUNTED_SECONDS"):
        monkeypatch.setattr(outage, name, 0.3)
    monkeypatch.setattr(outage, "SHAPE", TINY)
    monkeypatch.setattr(outage, "CONNECTIONS", 4)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("_short")
def test_what_is_answered_without_redis_is_compared(
    served: tuple[World, Server], stage: Stage
) -> None:
    knowledge, _ = served
    service = stage.serve(knowledge.url, environment={"GKC_USER_CACHE_MB": "1"})
    bodies = zipf_questions(TINY, 50, seed=0)
    sums = sums_of(knowledge.url, bodies)
    asked = Ask(service, stage.write("zipf", bodies))
    found = take_away(knowledge.redis, signal.SIGSTOP, asked, stage.other_cores, 0.3, sums)
    assert found.wrong == 0
    assert len(found.without.served.records) > 0
    wrong = take_away(knowledge.redis, signal.SIGSTOP, asked, stage.other_cores, 0.3, sums + 1)
    assert wrong.wrong == len(wrong.without.served.records) > 0
