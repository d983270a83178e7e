"""Work on another thread's loop: what it gives, raises, and that it can be given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gkc.client.begun import Begun


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
    begun = Begun(loop, _double(4))
    assert begun.result() == 8
    begun.cancel()
    with pytest.raises(KeyError, match="it fails"):
        Begun(loop, _fail()).result(1e12)


def test_work_that_is_given_up_is_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    cancelled = threading.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    begun = Begun(loop, wait_for_ever())
    for seconds in (0.01, -1):
        with pytest.raises(TimeoutError):
            begun.result(seconds)
    begun.cancel()
    assert cancelled.wait(30)
    with pytest.raises(asyncio.CancelledError):
        begun.result()


def test_work_of_a_loop_that_is_closed_is_over() -> None:
    loop = asyncio.new_event_loop()
    work = _double(4)
    begun = Begun(loop, work)
    loop.close()
    begun.cancel()
    work.close()
