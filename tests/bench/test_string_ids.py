"""The same questions are asked of numbers and of strings."""

from __future__ import annotations

import json

import pytest

from bench import string_ids


@pytest.mark.slow
def test_small_versions_are_asked_in_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, few in {"USERS": 5, "ITEMS": 9, "ROWS": 3, "QUESTIONS": 900, "ROUNDS": 2}.items():
        monkeypatch.setattr(string_ids, name, few)
    string_ids.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if "us a request" in line]
    assert [line.partition(":")[0] for line in lines] == ["int64", "ASCII", "beyond"]


def test_questions_are_of_the_same_numbers() -> None:
    numbers, texts = (json.loads(string_ids.bodies(version)[0]) for version in ("int64", "ASCII"))
    assert texts["i"] == [f"item-{number:09d}" for number in numbers["i"]]
    assert texts["u"] == f"user-{numbers['u']:09d}"
