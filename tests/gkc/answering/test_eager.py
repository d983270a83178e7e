"""A coroutine run eagerly behaves as an awaited one, only that it waits meanwhile."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress

import pytest

from gkc.answering.eager import EagerCoroutine


async def test_it_runs_up_to_its_first_pause_at_once() -> None:
    steps: list[str] = []

    async def work() -> int:
        steps.append("asked")
        await asyncio.sleep(0)
        steps.append("answered")
        return 7

    eager = EagerCoroutine(work())
    assert (steps, eager.is_done) == (["asked"], False)
    assert await eager == 7
    assert steps == ["asked", "answered"]


async def test_what_it_waits_for_goes_on_meanwhile() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    turns = 0

    async def work() -> str:
        nonlocal turns
        answer = await gate
        turns += 1
        return answer

    eager = EagerCoroutine(work())
    gate.set_result("here")
    await asyncio.sleep(0)
    assert turns == 0  # the rest runs where it is awaited
    assert await eager == "here"


async def test_without_a_pause_it_is_done() -> None:
    async def work() -> int:
        return 7

    eager = EagerCoroutine(work())
    assert eager.is_done
    assert await eager == 7


@pytest.mark.parametrize("pauses", [0, 1, 2])
async def test_what_it_raises_comes_where_it_is_awaited(pauses: int) -> None:
    async def work() -> None:
        for _ in range(pauses):
            await asyncio.sleep(0)
        raise LookupError("gone")

    eager = EagerCoroutine(work())
    assert eager.is_done == (pauses == 0)
    with pytest.raises(LookupError, match="gone"):
        await eager


@pytest.mark.parametrize("pauses", [0, 1])
async def test_what_it_raised_keeps_nothing_in_memory(pauses: int) -> None:
    async def work(table: asyncio.Event) -> None:
        for _ in range(pauses):
            await asyncio.sleep(0)
        raise LookupError(f"{table} is gone")

    async def ask() -> None:
        table = asyncio.Event()
        tables.append(weakref.ref(table))
        await EagerCoroutine(work(table))

    tables: list[weakref.ref[asyncio.Event]] = []
    gc.disable()
    try:
        with suppress(LookupError):
            await ask()
        assert [table() for table in tables] == [None]
    finally:
        gc.enable()


async def test_an_error_of_what_it_waits_for_reaches_it() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            return await gate
        except ConnectionError:
            await asyncio.sleep(0)
            return "asked again"

    eager = EagerCoroutine(work())
    gate.set_exception(ConnectionError())
    assert await eager == "asked again"


async def test_a_cancelled_task_cancels_it() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async def caller() -> None:
        await EagerCoroutine(work())

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ["cancelled"]


async def test_its_own_deadline_ends_it() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.get_running_loop().create_future()

    eager = EagerCoroutine(work())
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await eager


async def test_what_is_dropped_ends_and_its_wait_with_it() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            await gate
        finally:
            ended = True

    EagerCoroutine(work()).drop()
    assert ended
    assert gate.cancelled()


async def test_what_is_over_is_dropped_in_vain() -> None:
    eager = EagerCoroutine(asyncio.sleep(0, 7))
    assert await eager == 7
    eager.drop()
