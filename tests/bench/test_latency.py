"""One request is set against reading the same keys and against the teacher, in the same round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import redis

from bench import latency
from bench.latency import asyncio_mget_seconds, keys_of, main, mget_seconds, section
from bench.processes import Server
from bench.results import Section
from bench.vectors import load_plain_keys
from bench.world import VERSION, Shape, World

TIMES = {
    "ours": [2.0, 4.0],
    "MGET": [4.0, 10.0],
    "asyncio MGET": [8.0, 8.0],
    "teacher": [50.0, 200.0],
}
ROWS = 5


def test_references_are_those_of_the_same_round() -> None:
    to_mget, to_asyncio, of_teacher, _ = section(TIMES).figures
    assert to_mget.values == pytest.approx([0.5, 0.4])
    assert to_asyncio.values == pytest.approx([0.25, 0.5])
    assert of_teacher.values == pytest.approx([25, 50])


def test_ours_is_to_be_less_than_mget_and_much_less_than_the_teacher() -> None:
    to_mget, to_asyncio, of_teacher, _ = section(TIMES).figures
    assert to_mget.bounds == "≤ 0.6 / ≤ 0.45"
    assert of_teacher.bounds == "≥ 20 / ≥ 50"
    assert to_asyncio.verdict == ""


@pytest.fixture
def keys(served: tuple[World, Server]) -> Iterator[list[str]]:
    """Load the keys of one request, to be damaged."""
    knowledge, _ = served
    load_plain_keys(served[0])
    (body,) = knowledge.questions(ROWS, 1, seed=1)
    yield keys_of(body)
    with redis.Redis.from_url(knowledge.url) as client:
        for key in client.scan_iter(f"{VERSION}:*"):
            client.delete(key)


@pytest.mark.redis
@pytest.mark.slow
def test_a_reference_that_finds_less_than_we_do_ends_it(
    keys: list[str], served: tuple[World, Server]
) -> None:
    url = served[0].url
    assert len(keys) == 1 + ROWS
    with redis.Redis.from_url(url) as client:
        assert mget_seconds(client, [keys]) > 0
        assert asyncio.run(asyncio_mget_seconds(url, [keys])) > 0
        client.delete(keys[-1])
        with pytest.raises(SystemExit, match="a key is missing"):
            mget_seconds(client, [keys])
    with pytest.raises(SystemExit, match="a key is missing"):
        asyncio.run(asyncio_mget_seconds(url, [keys]))


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SHAPE", Shape(users=5, items=30))
    for name in ("ROWS", "BODIES", "CALLS", "TEACHER_CALLS"):
        monkeypatch.setattr(latency, name, ROWS)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk", "_small", "_same_cores")
def test_a_small_version_is_measured(kept: Callable[[str], Section]) -> None:
    main(rounds=1, seconds=1, save=True)
    figures = kept("latency").figures
    assert len(figures) == 4
    assert all(len(figure.values) == 1 and figure.median > 0 for figure in figures)
