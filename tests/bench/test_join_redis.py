"""The latency beside a join is set against the quiet of the same round."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import join_redis
from bench.join_redis import Round, main, section
from bench.results import Section
from bench.world import Shape
from tests.bench.test_open_loop import answers


def test_ratios_are_those_of_the_same_round() -> None:
    rounds = [
        Round(answers([2.0] * 9), answers([3.0] * 9), 100.0),
        Round(answers([4.0] * 9), answers([4.0] * 9), 200.0),
    ]
    ratio, quiet, beside, reads = section(rounds, 50).figures
    assert ratio.values == pytest.approx([1.5, 1.0])
    assert ratio.verdict == "met"
    assert quiet.values == pytest.approx([2, 4])
    assert beside.values == pytest.approx([3, 4])
    assert reads.values == [100, 200]


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk")
def test_few_rows_are_measured(
    kept: Callable[[str], Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {
        "SHAPE": Shape(users=3_000, items=30, pairs=3),
        "ROWS": 20_000,
        "READS_PER_SECOND": 500,
        "WARM_READS": 100,
        "CAPACITY_SECONDS": 1,
    }
    for name, value in few.items():
        monkeypatch.setattr(join_redis, name, value)
    main(rounds=1, seconds=1, save=True)
    ratio, quiet, beside, _ = kept("join_redis").figures
    assert ratio.values[0] == beside.values[0] / quiet.values[0] > 0
