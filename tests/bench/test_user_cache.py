"""A cache is set against none in the same round, under traffic that a few users make up."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import user_cache
from bench.bundles import USER_ID_STEP
from bench.load import Load, load
from bench.processes import Server
from bench.results import Section
from bench.user_cache import EXPONENT, ROWS, _hit_rate, main, zipf_questions
from bench.world import VERSION, Shape, World
from keep.served import SAFETENSORS, ServedKnowledge
from tests.bench.loads import a_load

NOBODY = Server("nobody", 0, 0)
KNOWLEDGE = World(Shape(users=100, items=30, pairs=2), NOBODY, "", Path())


def test_users_follow_zipfs_law() -> None:
    drawn = Counter(body["u"] for body in zipf_questions(KNOWLEDGE, 50_000, seed=0))
    counts = np.array([count for _, count in drawn.most_common()])
    expected = np.arange(1, len(counts) + 1) ** -EXPONENT
    shares = expected / expected.sum()
    assert counts[:10] / counts.sum() == pytest.approx(shares[:10], rel=0.1)
    assert all(user % USER_ID_STEP == 0 for user in drawn)


def test_each_round_has_new_requests_from_the_same_popular_users() -> None:
    rounds = [zipf_questions(KNOWLEDGE, 20_000, seed) for seed in (0, 0, 1)]
    assert rounds[0] == rounds[1] != rounds[2]
    popular = [Counter(body["u"] for body in asked).most_common(3) for asked in rounds]
    first, _, other = [[user for user, _ in found] for found in popular]
    assert first == other
    assert first != sorted(first)  # popular are not those with the lowest ids
    assert {len(body["i"]) for body in rounds[0]} == {ROWS}


@pytest.fixture
def _two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_cache, "SIZES_MB", (0, 1))
    monkeypatch.setattr(user_cache, "REQUESTS_PER_SECOND", 50)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk", "_two_sizes")
def test_services_differ_in_their_cache_and_are_compared_with_the_one_without(
    monkeypatch: pytest.MonkeyPatch, kept: Callable[[str], Section]
) -> None:
    made_up = {"0 MB": (100.0, 4.0), "1 MB": (150.0, 1.0)}
    sizes = {}

    def made_up_after_a_run(server: Server, *how: object, **more: object) -> Load:
        environment = Path(f"/proc/{server.pid}/environ").read_text(encoding="utf-8")
        found = re.search(r"GKC_USER_CACHE_MB=(\d+)\0", environment)
        sizes[server.name] = found and found[1]
        run = load(server, *how, **more)  # type: ignore[arg-type]
        rate, cpu_ms = made_up[server.name]
        return dataclasses.replace(run, seconds=run.requests / rate, cpu_ms=cpu_ms)

    monkeypatch.setattr(user_cache, "load", made_up_after_a_run)
    main(rounds=1, seconds=1, users=20, items=30, save=True)
    section = kept("user_cache")
    assert sizes == {"0 MB": "0", "1 MB": "1"}
    assert {figure.name: list(figure.values) for figure in section.figures} == {
        "CPU time of a request, 1 MB to none": [0.25],
        "throughput, 1 MB to none": pytest.approx([1.5]),
    }
    assert not any(figure.verdict for figure in section.figures)
    assert re.match(r"1 MB: [1-9]\d*% of the users asked for were there", section.notes[0])


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("_two_sizes")
def test_a_failed_request_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_cache, "load", lambda *_, **__: a_load(failed=1))
    with pytest.raises(SystemExit, match="1 of 1000 requests failed"):
        main(rounds=1, seconds=1, users=20, items=30)


@pytest.mark.redis
@pytest.mark.slow
def test_a_user_asked_for_again_is_a_hit(served: tuple[World, Server]) -> None:
    knowledge, server = served
    (body,) = knowledge.questions(2, 1, seed=0)
    with ServedKnowledge(f"http://127.0.0.1:{server.port}", VERSION) as client:
        client.ask(body, SAFETENSORS)
        before = _hit_rate(server)
        for _ in range(20):
            client.ask(body, SAFETENSORS)
    assert before < _hit_rate(server) < 1
