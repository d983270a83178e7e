"""A step is set against the least that does the same, and does the same indeed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from bench import kernels
from bench.kernels import WORLDS, Step, main
from bench.results import Section
from gkc.kernels import use
from gkc.store import ItemBlock


@pytest.fixture(autouse=True)
def _few_items(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a small table, and do without compiled loops again afterwards."""
    monkeypatch.setattr(kernels, "ITEMS", 3_000)
    yield
    use(None)


TIMES = {
    "memcpy": [1.0, 2.0],
    "assemble": [4.0, 6.0],
    "memcpy f32": [2.0, 3.0],
    "assemble f32": [5.0, 6.0],
    "items": [2.0, 4.0],
    "50 items": [1.0, 2.0],
    "orjson": [10.0, 20.0],
    "JSON": [11.0, 23.0],
}
BY_NUMPY = {
    "assemble": [7.0, 18.0],
    "assemble f32": [20.0, 12.0],
    "items": [5.0, 6.0],
    "50 items": [3.0, 8.0],
}


def test_steps_are_set_against_what_they_do_at_least(
    monkeypatch: pytest.MonkeyPatch, kept: Callable[[str], Section]
) -> None:
    steps: dict[str, Step] = {}

    def made_up(measured: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
        assert rounds == 2
        times = TIMES if "memcpy" in measured else BY_NUMPY
        steps.update(measured)
        assert times.keys() == measured.keys()
        return times

    monkeypatch.setattr(kernels, "_times", made_up)
    main(rounds=2, save=True)
    found = {
        figure.name: (list(figure.values), figure.wanted) for figure in kept("kernels").figures
    }
    assert found == {
        "assembly to memcpy, f16, B = 500, D = 64": ([4, 3], "≤ 5 / ≤ 3"),
        "the same by numpy alone, B = 500, D = 64": ([7, 9], ""),
        "assembly to memcpy, f32, B = 500, D = 64": ([2.5, 2], ""),
        "assembly by numpy alone to compiled, f32, B = 500, D = 64": ([4, 2], ""),
        "items looked up by numpy alone to compiled, B = 500, D = 64": ([2.5, 1.5], ""),
        "items looked up by numpy alone to compiled, B = 50, D = 64": ([3, 4], ""),
        "JSON to orjson alone, f32, B = 500, D = 64": ([1.1, 1.15], "≤ 1.2 / ≤ 1"),
    }
    for which in range(WORLDS):
        for step, floor in (("assemble", "memcpy"), ("assemble f32", "memcpy f32")):
            np.testing.assert_array_equal(steps[step](which), steps[floor](which))
    for step, many in (("items", 500), ("50 items", 50)):
        block = steps[step](0)
        assert isinstance(block, ItemBlock)
        assert block.k_i.shape == (many, 128)
    assert parsed(steps["JSON"](0)) == parsed(steps["orjson"](0))


def parsed(text: object) -> object:
    assert isinstance(text, bytes)
    return orjson.loads(text)


def test_a_time_is_the_best_of_its_calls_and_steps_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = []
    clock = iter([time for k in range(12) for time in (0, [3, 1, 2][k % 3] + k // 3)])
    monkeypatch.setattr(kernels, "CALLS", 3)
    monkeypatch.setattr(kernels, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    steps = {name: lambda which, name=name: called.append((name, which)) for name in "ab"}
    times = kernels._times(steps, rounds=2)
    assert times == {"a": [1, 3], "b": [2, 4]}
    assert called == [(name, which) for name in "abab" for which in range(3)]


@pytest.mark.slow
def test_every_step_is_timed(
    monkeypatch: pytest.MonkeyPatch, kept: Callable[[str], Section]
) -> None:
    monkeypatch.setattr(kernels, "CALLS", 2)
    main(rounds=1, save=True)
    assert all(figure.median > 0 for figure in kept("kernels").figures)
