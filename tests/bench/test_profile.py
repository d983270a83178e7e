"""Samples count for the step that they are in, and for one only."""

from __future__ import annotations

import pytest

from bench.profile import OTHER, STEPS, by_step, mark_of

LOOP = "<module>;Runner.run (asyncio/runners.py:118)"
AROUND = f"{LOOP};Observed.__call__ (gkc/http/middleware.py:57)"
ENDPOINT = f"{AROUND};KnowledgeEndpoint.__call__ (gkc/http/routes.py:51)"
ANSWER = f"{ENDPOINT};Answering.answer (gkc/answering/answering.py:53)"


def test_a_sample_counts_for_its_innermost_known_step() -> None:
    lines = [
        f"{ENDPOINT};decode_json (gkc/http/decoding.py:60) 3",
        f"{ANSWER};Plan.lay (gkc/center/plan.py:217);Laying.__call__ (gkc/rows.py:502) 4",
        f"{ANSWER} 2",
        f"{AROUND} 1",
        f"{LOOP};_Link.data_received (gkc/store/backends/redis/pipe.py:199) 5",
        f"{LOOP} 6",
        f"{LOOP};decode_json (elsewhere/decoding.py:60) 8",
        "<module>;main (x.py:1) 7",
        "Thread._bootstrap (threading.py:1002);_worker (concurrent/futures/thread.py:81) 100",
    ]
    assert by_step(lines) == {
        "decode": 3,
        "lay": 4,
        "the rest of answering": 2,
        "around it": 1,
        "users: Redis": 5,
        "the loop: uvloop, sockets, kernel": 14,
        OTHER: 7,
    }


@pytest.mark.parametrize("name", [name for names in STEPS.values() for name in names])
def test_a_step_is_known_by_functions_that_exist(name: str) -> None:
    mark_of(name)


@pytest.mark.parametrize("name", ["gkc.answering.answering:Answering.guess", "gkc.guessing:guess"])
def test_a_function_that_is_gone_is_named(name: str) -> None:
    with pytest.raises(SystemExit, match=name):
        mark_of(name)
