from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan import (
    GROUPS,
    JSON,
    SAFETENSORS,
    Answer,
    Outcome,
    Plan,
    Question,
    group_of,
    is_counted,
    read_outcome,
    read_plan,
    write_outcome,
    write_plan,
)

PLAN = Plan(2, 10.0, None, 0.01, {"20211220": 256}, is_complete=True)


def answer(at: float = 5.0, fault: str = "") -> Answer:
    return Answer(at, 20, SAFETENSORS, 0.0, 2.5, fault, 0)


def test_the_groups_cover_every_number_of_candidates_once() -> None:
    covered = [n for first, last in GROUPS for n in range(first, last + 1)]
    assert covered == list(range(1, 1001))


@pytest.mark.parametrize(
    ("candidates", "group"),
    [(1, "1"), (2, "2-50"), (50, "2-50"), (51, "51-200"), (1000, "501-1000")],
)
def test_a_number_of_candidates_belongs_to_the_group_that_holds_it(
    candidates: int, group: str
) -> None:
    assert group_of(candidates) == group


def test_a_plan_and_its_questions_come_back_as_they_were_written(tmp_path: Path) -> None:
    questions = [
        Question(SAFETENSORS, {"u": -3, "i": [1, -2], "v": "20211220", "dtype": "f16"}),
        Question(JSON, {"u": 2**62, "i": [5], "v": "20211220"}),
    ]
    write_plan(PLAN, questions, tmp_path)
    assert read_plan(tmp_path) == (PLAN, questions)
    assert [question.candidates for question in questions] == [2, 1]


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r")))
def test_what_was_found_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, fault: str
) -> None:
    folder = tmp_path_factory.mktemp("found")
    found = Outcome([answer(), answer(0.1 + 0.2, fault)], 1 / 3)
    write_outcome(found, folder)
    assert read_outcome(folder) == found


def test_nothing_found_comes_back_as_nothing(tmp_path: Path) -> None:
    write_outcome(Outcome([], 0.0), tmp_path)
    assert read_outcome(tmp_path) == Outcome([], 0.0)


@pytest.mark.parametrize(
    ("at", "counts"), [(0.99, False), (1.0, True), (9.99, True), (10.0, False)]
)
def test_the_warm_up_and_what_comes_late_do_not_count(at: float, *, counts: bool) -> None:
    assert is_counted(answer(at=at), seconds=10.0) is counts
