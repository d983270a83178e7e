"""Of those that pause, one goes on in each turn of the event loop."""

from __future__ import annotations

import asyncio

from gkc.answering.turns import Turns


async def work(turns: Turns, name: str, done: list[str]) -> None:
    for _ in range(2):
        await turns.pause()
        done.append(name)


async def test_they_go_on_one_in_a_turn_and_in_order() -> None:
    turns, done = Turns(), list[str]()
    works = [asyncio.create_task(work(turns, name, done)) for name in "abc"]
    seen = {0}
    while not all(each.done() for each in works):
        before = len(done)
        await asyncio.sleep(0)
        seen.add(len(done) - before)
    assert "".join(done) == "abcabc"
    assert seen == {0, 1}


async def test_who_waits_no_longer_has_no_turn() -> None:
    turns, done = Turns(), list[str]()
    works = [asyncio.create_task(work(turns, name, done)) for name in "abc"]
    await asyncio.sleep(0)
    for each in works[:2]:
        each.cancel()
    await asyncio.gather(*works, return_exceptions=True)
    assert "".join(done) == "cc"
    await work(turns, "d", done)
    assert "".join(done) == "ccdd"
