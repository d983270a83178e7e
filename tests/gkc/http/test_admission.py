"""What fits into a turn of the loop is begun; the rest waits for one, or is refused at once."""

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
    LIGHT_ROOM,
    MOST_ANSWER_BYTES,
    MOST_UNDER_WAY,
    PATIENCE_SECONDS,
    Admission,
    Verdict,
)

HEAVY = 2000
BEGIN, WAIT, REFUSE = Verdict


def judged(admission: Admission, body_bytes: int = HEAVY) -> list[Verdict]:
    """Return what becomes of very many requests that come together while others are under way."""
    return [admission.judge(body_bytes, ALWAYS_BEGUN) for _ in range(3000)]


def begun(admission: Admission, body_bytes: int = HEAVY) -> int:
    """Return how many of them begin."""
    return judged(admission, body_bytes).count(BEGIN)


def filled(admission: Admission) -> list[Verdict]:
    """Return what becomes of very many of whom those wait that are told to."""
    verdicts = []
    for _ in range(3000):
        verdicts.append(admission.judge(HEAVY, ALWAYS_BEGUN))
        if verdicts[-1] is WAIT:
            admission.turn(HEAVY)
    return verdicts


def work(seconds: float) -> None:
    """Hold the loop, as requests do that have begun."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def next_turn() -> None:
    """Let the loop go round with nothing to do, until the few who wait have begun."""
    for _ in range(20):
        await asyncio.sleep(0)


async def refused_before() -> Admission:
    """Return one that has just refused somebody."""
    admission = Admission()
    assert admission.judge(0, MOST_UNDER_WAY) is REFUSE
    await next_turn()
    return admission


async def test_of_those_that_come_together_some_begin_and_others_wait() -> None:
    admission = Admission()
    verdicts = judged(admission)
    assert verdicts == sorted(verdicts, key=list(Verdict).index)
    assert 1 < verdicts.count(BEGIN) < 100
    assert REFUSE not in verdicts
    await next_turn()
    assert 1 < begun(admission) < 100


async def test_those_who_wait_begin_in_later_turns_and_nobody_overtakes_them() -> None:
    admission = Admission()
    begun(admission)
    turns = [admission.turn(HEAVY) for _ in range(100)]
    for _ in range(3):
        await asyncio.sleep(0)
    done = [turn.done() for turn in turns]
    assert done == sorted(done, reverse=True)
    assert 1 < done.count(True) < 100
    assert admission.judge(HEAVY, ALWAYS_BEGUN) is WAIT
    assert await asyncio.gather(*turns) == [True] * 100


async def test_the_last_is_the_next_when_the_first_has_waited_for_long() -> None:
    admission = Admission()
    begun(admission)
    first = [admission.turn(HEAVY) for _ in range(50)]
    work(PATIENCE_SECONDS / 4)
    last = admission.turn(HEAVY)
    await last
    assert not first[len(first) // 2].done()
    assert await asyncio.gather(*first) == [True] * 50


async def test_who_waits_while_the_loop_works_for_too_long_is_refused() -> None:
    admission = Admission()
    begun(admission)
    turns = [admission.turn(HEAVY) for _ in range(3 * ALWAYS_BEGUN)]
    turns.pop().cancel()
    work(PATIENCE_SECONDS * 1.2)
    told = await asyncio.gather(*turns)
    assert told.count(False) > ALWAYS_BEGUN
    assert REFUSE in filled(admission)


async def test_a_store_that_is_waited_for_is_no_work_of_the_loop() -> None:
    admission = Admission()
    begun(admission)
    turns = [admission.turn(HEAVY) for _ in range(3)]
    await asyncio.sleep(PATIENCE_SECONDS * 1.2)
    assert await asyncio.gather(*turns) == [True] * 3


async def test_after_a_refusal_few_may_wait_until_a_second_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admission = await refused_before()
    verdicts = filled(admission)
    assert verdicts == sorted(verdicts, key=list(Verdict).index)
    assert 1 <= verdicts.count(WAIT) < 100
    monkeypatch.setattr("gkc.http.admission._REFUSING_SECONDS", -1.0)
    await next_turn()
    assert REFUSE not in judged(admission)


async def test_a_request_that_comes_alone_is_begun_however_long_it_takes() -> None:
    admission = Admission()
    for _ in range(3):
        assert admission.judge(1 << 40, 0) is BEGIN
        await next_turn()


async def test_few_requests_under_way_always_begin_unless_very_many_were_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admission = await refused_before()
    for under_way in range(ALWAYS_BEGUN):
        assert admission.judge(1 << 30, under_way) is BEGIN
    assert filled(admission).count(REFUSE) > ALWAYS_BEGUN
    await next_turn()
    assert admission.judge(1 << 30, 1) is BEGIN
    assert admission.judge(1 << 30, 1) is WAIT, "those who were refused come again"
    monkeypatch.setattr("gkc.http.admission._REFUSING_SECONDS", -1.0)
    await next_turn()
    assert admission.judge(1 << 30, 0) is BEGIN
    assert admission.judge(HEAVY, ALWAYS_BEGUN - 1) is BEGIN


async def test_light_requests_have_a_lane_of_their_own() -> None:
    admission = Admission()
    begun(admission)
    turns = [admission.turn(HEAVY) for _ in range(100)]
    await asyncio.sleep(0)
    assert admission.judge(HEAVY, ALWAYS_BEGUN) is WAIT
    assert admission.judge(LIGHT_BYTES, ALWAYS_BEGUN) is BEGIN
    assert 1 < begun(admission, LIGHT_BYTES) < 3000
    assert await asyncio.gather(*turns) == [True] * 100


async def test_light_requests_starve_no_other() -> None:
    for admission in (Admission(), await refused_before()):
        for _ in range(20):
            begun(admission, LIGHT_BYTES)
            assert admission.judge(1 << 40, ALWAYS_BEGUN) is BEGIN
            await next_turn()


async def test_one_too_large_for_a_turn_leaves_light_ones_their_lane() -> None:
    admission = Admission()
    assert admission.judge(1 << 40, 0) is BEGIN
    assert admission.judge(HEAVY, ALWAYS_BEGUN) is WAIT
    assert 1 < begun(admission, LIGHT_BYTES) < 3000


async def test_bodies_that_are_announced_and_never_sent_open_no_door() -> None:
    admission = Admission()
    at_first = begun(admission)
    for _ in range(600):
        await asyncio.sleep(0)
        admission.judge(1 << 60, 0)
        await asyncio.sleep(0)
    await next_turn()
    assert begun(admission) < 10 * at_first


async def test_what_a_connection_asks_next_comes_out_of_the_same_turn() -> None:
    """As behind an answer: that is no new turn."""
    admission = Admission()
    begun(admission)
    await asyncio.sleep(0)
    assert admission.judge(HEAVY, ALWAYS_BEGUN, is_next=True) is WAIT
    assert await admission.turn(HEAVY)
    assert admission.judge(HEAVY, ALWAYS_BEGUN) is BEGIN


async def test_some_light_requests_begin_however_long_others_take() -> None:
    admission = Admission()
    for _ in range(200):  # a turn holds less than one of them by then
        admission.judge(HEAVY, 0)
        await asyncio.sleep(0)
        work(0.002)
        await asyncio.sleep(0)
    assert admission.judge(HEAVY, 0) is BEGIN
    assert begun(admission, LIGHT_BYTES) == LIGHT_ROOM


async def test_refusals_of_those_who_waited_are_spread_over_turns() -> None:
    admission = Admission()
    begun(admission)
    turns = [admission.turn(HEAVY) for _ in range(10 * FREE_REFUSALS)]
    work(PATIENCE_SECONDS * 1.2)
    refused = 0
    while refused < 5 * FREE_REFUSALS:
        await asyncio.sleep(0)
        now = sum(turn.done() and not turn.result() for turn in turns)
        assert now - refused <= FREE_REFUSALS
        refused = now
    await asyncio.gather(*turns)


async def test_a_turn_that_refuses_very_many_is_flooded_and_the_next_is_not() -> None:
    admission = await refused_before()
    for _ in range(FREE_REFUSALS):
        assert admission.judge(0, MOST_UNDER_WAY) is REFUSE
        assert not admission.is_flooded
    assert admission.judge(0, MOST_UNDER_WAY) is REFUSE
    assert admission.is_flooded
    await next_turn()
    assert admission.judge(HEAVY, ALWAYS_BEGUN) is BEGIN
    assert not admission.is_flooded


async def test_what_takes_longer_than_expected_begins_less_often() -> None:
    admission = Admission()
    at_first = begun(admission)
    await next_turn()
    for _ in range(40):
        assert admission.judge(HEAVY, ALWAYS_BEGUN) is BEGIN
        await asyncio.sleep(0)
        work(0.003)
        await next_turn()
    assert begun(admission) < at_first


async def test_those_under_way_are_limited_even_if_they_only_wait() -> None:
    admission = Admission()
    assert admission.judge(0, MOST_UNDER_WAY - 1) is BEGIN
    assert admission.judge(0, MOST_UNDER_WAY) is REFUSE


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
