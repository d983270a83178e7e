"""Samples count for the step that they are in, and for one only."""

from __future__ import annotations

from bench.profile import OTHER, by_step

AROUND = "<module>;run (asyncio/runners.py:118);Observed.__call__ (gkc/http/middleware.py:57)"


def test_a_sample_counts_for_its_innermost_known_step() -> None:
    lines = [
        f"{AROUND};KnowledgeEndpoint.__call__ (gkc/http/routes.py:51);"
        "decode_json (gkc/http/decoding.py:60) 3",
        f"{AROUND};KnowledgeLookup.answer (gkc/http/lookup.py:99);"
        "assemble (gkc/knowledge.py:140) 4",
        f"{AROUND};KnowledgeLookup.answer (gkc/http/lookup.py:99) 2",
        f"{AROUND} 1",
        "<module>;run (asyncio/runners.py:118);"
        "_Link.data_received (gkc/store/backends/redis_pipe.py:199) 5",
        "<module>;run (asyncio/runners.py:118) 6",
        "<module>;main (x.py:1) 7",
        "Thread._bootstrap (threading.py:1002);_worker (concurrent/futures/thread.py:81) 100",
    ]
    assert by_step(lines) == {
        "decode": 3,
        "assemble": 4,
        "the rest of look up": 2,
        "around it": 1,
        "users: Redis": 5,
        "the loop: uvloop, sockets, kernel": 6,
        OTHER: 7,
    }
