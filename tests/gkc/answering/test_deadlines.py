"""Work is ended once its time is over, and only then; who else ends it has its way."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from time import monotonic, sleep

import pytest

from gkc.answering.deadlines import Deadlines
from gkc.errors import DeadlineExceededError

LONG = 3600.0


@pytest.fixture
async def deadlines() -> Deadlines:
    return Deadlines(LONG, "A_SETTING")


async def wait_within(deadlines: Deadlines, seconds: float) -> None:
    with deadlines.within(monotonic(), seconds, "X-A"):
        await asyncio.Event().wait()


async def test_what_is_late_is_cancelled_and_told(deadlines: Deadlines) -> None:
    with pytest.raises(DeadlineExceededError, match=r"within 0\.01 s; allow more by X-A,"):
        await wait_within(deadlines, 0.01)
    await asyncio.sleep(0)  # the task itself is not cancelled


async def test_no_caller_has_more_than_the_most() -> None:
    few = Deadlines(0.01, "A_SETTING")
    for seconds in (LONG, math.inf):
        with pytest.raises(DeadlineExceededError, match=r"within 0\.01 s; .* by A_SETTING,"):
            await wait_within(few, seconds)


async def test_what_is_late_from_the_beginning_is_not_begun(deadlines: Deadlines) -> None:
    with pytest.raises(DeadlineExceededError), deadlines.within(monotonic() - 1, 1, "X-A"):
        pytest.fail("it was begun")


async def test_what_never_waits_and_ends_late_is_late(deadlines: Deadlines) -> None:
    with pytest.raises(DeadlineExceededError), deadlines.within(monotonic(), 0.001, "X-A"):
        sleep(0.002)  # noqa: ASYNC251


async def test_what_ends_in_time_is_left_alone(deadlines: Deadlines) -> None:
    with deadlines.within(monotonic(), 0.02, "X-A"):
        await asyncio.sleep(0)
    with pytest.raises(KeyError), deadlines.within(monotonic(), 0.02, "X-A"):
        raise KeyError
    await asyncio.sleep(0.05)


async def test_each_has_its_own_time_whatever_their_order(deadlines: Deadlines) -> None:
    ended = []

    async def work(seconds: float) -> None:
        with suppress(DeadlineExceededError):
            await wait_within(deadlines, seconds)
        ended.append(seconds)

    times = [0.06, 0.02, 0.04]
    await asyncio.gather(*map(work, times))
    assert ended == sorted(times)


@pytest.mark.parametrize("is_late", [False, True])
async def test_who_is_cancelled_by_others_stays_cancelled(
    deadlines: Deadlines, is_late: bool
) -> None:
    deadline = deadlines.within(monotonic(), LONG, "X-A")

    async def work() -> None:
        with deadline:
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    if is_late:
        deadline.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
