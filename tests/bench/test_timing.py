"""Everything asked is asked, one after another or shared out among lanes."""

from __future__ import annotations

import asyncio

import pytest

from bench.timing import loop_mean_seconds, loop_median_seconds, mean_seconds, median_seconds

ASKED = [1, 2, 3, 4, 5]


def test_each_is_asked_once_and_in_order() -> None:
    seen: list[int] = []

    async def note(one: int) -> None:
        seen.append(one)

    assert median_seconds(seen.append, ASKED) >= 0
    assert asyncio.run(loop_median_seconds(note, ASKED)) >= 0
    assert seen == ASKED * 2


@pytest.mark.parametrize("on_loop", [False, True])
def test_lanes_share_what_is_asked_and_a_round_before_warms_up(*, on_loop: bool) -> None:
    lanes: list[list[int]] = [[], []]

    async def note(lane: list[int], one: int) -> None:
        lane.append(one)

    if on_loop:
        first, second = lanes
        asked = [lambda one: note(first, one), lambda one: note(second, one)]
        assert asyncio.run(loop_mean_seconds(asked, ASKED)) > 0
    else:
        assert mean_seconds([lane.append for lane in lanes], ASKED) > 0
    assert lanes == [[1, 3, 5] * 2, [2, 4] * 2]
