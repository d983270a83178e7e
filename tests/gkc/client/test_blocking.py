"""Coroutines for callers that block: what they give, raise, and that they can be given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gkc.client.blocking import LoopTask, run_here


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def _fail() -> None:
    raise KeyError("it fails")


def test_what_work_gives_or_raises(loop: asyncio.AbstractEventLoop) -> None:
    task = LoopTask(loop, _double(4))
    assert task.result() == 8
    task.cancel()
    with pytest.raises(KeyError, match="it fails"):
        LoopTask(loop, _fail()).result(1e12)


def test_work_that_is_given_up_is_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    cancelled = threading.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = LoopTask(loop, wait_for_ever())
    for seconds in (0.01, -1):
        with pytest.raises(TimeoutError):
            task.result(seconds)
    task.cancel()
    assert cancelled.wait(30)
    with pytest.raises(asyncio.CancelledError):
        task.result()


def test_work_of_a_loop_that_is_closed_is_over() -> None:
    loop = asyncio.new_event_loop()
    work = _double(4)
    task = LoopTask(loop, work)
    loop.close()
    task.cancel()
    work.close()


def test_what_would_pause_is_refused() -> None:
    with pytest.raises(RuntimeError, match="paused"):
        run_here(_double(4))
