"""The same questions are asked of numbers and of strings."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bench import string_ids
from bench.results import Section
from bench.world import Shape


@pytest.mark.slow
def test_small_versions_are_asked_in_turns(
    kept: Callable[[str], Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"SHAPE": Shape(users=5, items=9, pairs=2), "ROWS": 3, "QUESTIONS": 900}
    for name, value in few.items():
        monkeypatch.setattr(string_ids, name, value)
    string_ids.main(rounds=2, save=True)
    figures = kept("string_ids").figures
    assert [len(figure.values) for figure in figures] == [2, 2, 2]


def test_strings_are_set_against_numbers_of_the_same_round() -> None:
    times = {"int64": [100.0, 200.0], "ASCII": [120.0, 220.0], "beyond": [150.0, 280.0]}
    ascii_ids, beyond, _ = string_ids.section(times).figures
    assert (ascii_ids.values, ascii_ids.verdict) == ([1.2, 1.1], "stretch")
    assert (beyond.values, beyond.verdict) == ([1.5, 1.4], "missed")


def test_questions_are_of_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(string_ids, "QUESTIONS", 1)
    numbers, texts = (json.loads(string_ids.bodies(version)[0]) for version in ("int64", "ASCII"))
    assert texts["i"] == [f"item-{number:09d}" for number in numbers["i"]]
    assert texts["u"] == f"user-{numbers['u']:09d}"
