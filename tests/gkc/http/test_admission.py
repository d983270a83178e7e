"""What fits into a turn of the loop is begun, more after a calm than while many always wait."""

from __future__ import annotations

import asyncio
import time

import pytest

from gkc.errors import OverloadedError
from gkc.http.admission import (
    ALWAYS_BEGUN,
    FREE_REFUSALS,
    LARGE_ANSWER_BYTES,
    LIGHT_BYTES,
    MOST_ANSWER_BYTES,
    MOST_UNDER_WAY,
    Admission,
)

HEAVY = 10_000


def begun(admission: Admission, body_bytes: int = HEAVY) -> int:
    """Return how many of very many requests are begun that came together."""
    return sum(admission.admits(body_bytes, ALWAYS_BEGUN) for _ in range(3000))


def work(seconds: float) -> None:
    """Hold the loop, as requests do that have begun."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def idle() -> None:
    """Let the loop go round with nothing to do."""
    await asyncio.sleep(0.001)


async def test_of_those_that_come_together_some_are_begun_and_then_some_of_the_next() -> None:
    admission = Admission()
    assert 1 < begun(admission) < 100
    assert not admission.admits(HEAVY, ALWAYS_BEGUN)
    await idle()
    assert 1 <= begun(admission) < 100


async def test_a_request_that_comes_alone_is_begun_however_long_it_takes() -> None:
    admission = Admission()
    for _ in range(3):
        assert admission.admits(1 << 40, 0)
        await idle()


async def test_few_requests_under_way_are_never_refused_unless_very_many_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admission = Admission()
    for under_way in range(ALWAYS_BEGUN):
        assert admission.admits(1 << 30, under_way)
    assert not admission.admits(HEAVY, ALWAYS_BEGUN)
    begun(admission)
    await idle()
    assert admission.admits(1 << 30, 1)
    assert not admission.admits(HEAVY, 1), "those who were refused come again"
    monkeypatch.setattr("gkc.http.admission._REFUSING_SECONDS", -1.0)
    await idle()
    assert admission.admits(1 << 30, 0)
    assert admission.admits(HEAVY, ALWAYS_BEGUN - 1)


async def test_light_requests_are_begun_when_others_are_not_any_more() -> None:
    admission = Admission()
    begun(admission)
    assert admission.admits(LIGHT_BYTES, ALWAYS_BEGUN)
    assert not admission.admits(HEAVY, ALWAYS_BEGUN)
    assert 1 < begun(admission, LIGHT_BYTES) < 3000


async def test_one_too_large_for_a_turn_leaves_light_ones_their_share() -> None:
    admission = Admission()
    assert admission.admits(1 << 40, 0)
    assert not admission.admits(HEAVY, ALWAYS_BEGUN)
    assert 1 < begun(admission, LIGHT_BYTES) < 3000


async def test_less_is_begun_at_once_while_some_always_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gkc.http.admission._REFUSING_SECONDS", -1.0)
    admission = Admission()
    after_calm = while_they_wait = begun(admission)
    await idle()
    for _ in range(30):
        while_they_wait = begun(admission)
        work(0.004)  # what was begun takes as long as was expected
        await asyncio.sleep(0)
    assert while_they_wait < after_calm / 2
    await idle()
    assert begun(admission) > while_they_wait


async def test_a_turn_that_refuses_very_many_is_flooded_and_the_next_is_not() -> None:
    admission = Admission()
    while admission.admits(HEAVY, ALWAYS_BEGUN):
        assert not admission.is_flooded
    for _ in range(FREE_REFUSALS):
        assert not admission.is_flooded
        assert not admission.admits(HEAVY, ALWAYS_BEGUN)
    assert admission.is_flooded
    await idle()
    assert admission.admits(HEAVY, ALWAYS_BEGUN)
    assert not admission.is_flooded


async def test_what_takes_longer_than_expected_is_begun_less_often() -> None:
    admission = Admission()
    at_first = begun(admission)
    await idle()
    for _ in range(40):
        assert admission.admits(HEAVY, ALWAYS_BEGUN)
        await asyncio.sleep(0)
        work(0.003)
        await idle()
    assert begun(admission) < at_first


async def test_those_under_way_are_limited_even_if_they_only_wait() -> None:
    admission = Admission()
    assert admission.admits(0, MOST_UNDER_WAY - 1)
    assert not admission.admits(0, MOST_UNDER_WAY)


def test_large_answers_are_limited_together_and_a_single_one_is_not() -> None:
    half = MOST_ANSWER_BYTES // 2
    for first, second in ((10 * MOST_ANSWER_BYTES, 0), (half, half)):
        admission = Admission()
        held = admission.hold(first) + admission.hold(second)
        assert held == first + second
        assert admission.hold(LARGE_ANSWER_BYTES - 1) == 0
        with pytest.raises(OverloadedError):
            admission.hold(LARGE_ANSWER_BYTES)
        admission.free(held)
        assert admission.hold(LARGE_ANSWER_BYTES) == LARGE_ANSWER_BYTES
