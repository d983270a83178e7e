"""How long calls take: one after another, or several at a time, in threads or on an event loop."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AskedT = TypeVar("AskedT")


def median_seconds(call: Callable[[AskedT], object], asked: Iterable[AskedT]) -> float:
    """Call with one thing after another; return the median time of a call."""
    times = []
    for one in asked:
        began = time.perf_counter()
        call(one)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def loop_median_seconds(
    call: Callable[[AskedT], Awaitable[object]], asked: Iterable[AskedT]
) -> float:
    """Do the same on an event loop."""
    times = []
    for one in asked:
        began = time.perf_counter()
        await call(one)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def mean_seconds(calls: Sequence[Callable[[AskedT], object]], asked: Sequence[AskedT]) -> float:
    """Share what is asked out among a thread for each of the calls.

    Returns the time of all by their number; a round before, which is not timed, warms up.
    """

    def lane(number: int) -> None:
        for one in asked[number :: len(calls)]:
            calls[number](one)

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(lane, range(len(calls))))
        began = time.perf_counter()
        list(pool.map(lane, range(len(calls))))
        return (time.perf_counter() - began) / len(asked)


async def loop_mean_seconds(
    calls: Sequence[Callable[[AskedT], Awaitable[object]]], asked: Sequence[AskedT]
) -> float:
    """Do the same with tasks of an event loop."""

    async def lane(number: int) -> None:
        for one in asked[number :: len(calls)]:
            await calls[number](one)

    await asyncio.gather(*map(lane, range(len(calls))))
    began = time.perf_counter()
    await asyncio.gather(*map(lane, range(len(calls))))
    return (time.perf_counter() - began) / len(asked)
