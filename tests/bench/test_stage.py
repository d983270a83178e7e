"""Everybody is asked in every round, and nobody's failure is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import stage as module
from bench.load import Ask, Load
from bench.processes import Server
from bench.stage import Stage, ratios
from tests.bench.loads import a_load

NOBODY = Server("nobody", 0, 0)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note whose requests are sent instead of sending them; the sixth run fails."""
    sent: list[str] = []

    def note(asked: Ask, *_: object) -> Load:
        sent.append(asked.bodies.stem)
        return a_load(failed=int(len(sent) == 6))

    monkeypatch.setattr(module, "load", note)
    return sent


def test_who_goes_first_changes(loads: list[str]) -> None:
    with Stage() as stage:
        asked = {name: Ask(NOBODY, Path(f"{name}.jsonl")) for name in ("a", "b")}
        found = stage.in_turns(asked, rounds=2, seconds=1)
    assert loads == ["a", "b", "b", "a"]
    assert {name: len(runs) for name, runs in found.items()} == {"a": 2, "b": 2}


def test_failed_requests_end_it(loads: list[str]) -> None:
    with (
        Stage() as stage,
        pytest.raises(SystemExit, match="nobody, a: 1 of 1000 requests failed"),
    ):
        stage.in_turns({"a": Ask(NOBODY, Path("a.jsonl"))}, rounds=9, seconds=1)
    assert len(loads) == 6


def test_nothing_is_left(tmp_path: Path) -> None:
    with Stage() as stage:
        bodies = stage.write("some", [{"u": 1}])
        assert bodies.read_text() == '{"u":1}\n'
    assert not bodies.parent.exists()


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([1.0, 6.0], [2.0, 3.0]) == [0.5, 2.0]
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [])
