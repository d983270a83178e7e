from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan import JSON, SAFETENSORS, Answer, Outcome, Plan
from loadtest.report import PERCENTILES, faults, percentiles, print_report, rows

FIXED = Plan(100, 10.0, 100.0, 0.01, {"20211220": 256}, is_complete=True)


def answer(
    ms: float = 2.0,
    *,
    candidates: int = 20,
    accept: str = SAFETENSORS,
    fault: str = "",
    checked: int = 0,
) -> Answer:
    return Answer(5.0, candidates, accept, 0.25, ms, fault, checked)


def test_percentiles_are_times_that_were_measured() -> None:
    assert PERCENTILES == (50.0, 90.0, 99.0, 99.9)
    assert percentiles([float(k) for k in range(1, 1001)]) == [500.0, 900.0, 990.0, 999.0]
    assert percentiles([3.0]) == [3.0] * 4
    assert percentiles([1.0, 2.0]) == [1.0, 2.0, 2.0, 2.0]


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=300))
def test_a_percentile_has_the_share_of_the_times_at_or_below_it(times: list[float]) -> None:
    for p, found in zip(PERCENTILES, percentiles(times), strict=True):
        assert found in times
        at_or_below = sum(time <= found for time in times)
        assert at_or_below / len(times) >= p / 100 - 1e-9
        below = sum(time < found for time in times)
        assert below / len(times) <= p / 100 + 1e-9


def test_answers_are_told_of_by_candidates_by_format_and_together() -> None:
    answers = [
        answer(1.0, candidates=1),
        answer(2.0, candidates=300),
        answer(4.0, candidates=300, accept=JSON),
    ]
    assert [(row.group, row.answers, row.ms[0]) for row in rows(answers)] == [
        ("1", 1, 1.0),
        ("201-500", 2, 2.0),
        ("safetensors", 2, 1.0),
        ("JSON", 1, 4.0),
        ("all", 3, 2.0),
    ]
    assert rows([]) == []


def test_the_most_frequent_fault_comes_first() -> None:
    answers = [answer(fault="a"), answer(fault="b"), answer(), answer(fault="b")]
    assert faults(answers) == [("b", 2), ("a", 1)]


def test_a_good_test_prints_percentiles_and_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Outcome([answer(2.5, checked=1), answer(7.5, accept=JSON)], 0.2)
    assert print_report(found, FIXED, tmp_path / "percentiles.csv")
    printed = capsys.readouterr().out
    assert ["all", "2", "2.50", "7.50", "7.50", "7.50"] in [k.split() for k in printed.splitlines()]
    assert "0.2 answers/s of 100 due; sent late by 0.25 ms (p50), 0.25 (p99)" in printed
    assert "used 20% of it" in printed
    assert "2 requests, 1 answers looked into, 0 failed" in printed
    with (tmp_path / "percentiles.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["candidates", "answers", "p50_ms", "p90_ms", "p99_ms", "p99.9_ms"],
            ["2-50", "2", "2.5", "7.5", "7.5", "7.5"],
            ["safetensors", "1", "2.5", "2.5", "2.5", "2.5"],
            ["JSON", "1", "7.5", "7.5", "7.5", "7.5"],
            ["all", "2", "2.5", "7.5", "7.5", "7.5"],
        ]


def test_a_failed_request_fails_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Outcome([answer(), answer(fault="status 503: b''")], 0.2)
    assert not print_report(found, FIXED, tmp_path / "percentiles.csv")
    printed = capsys.readouterr().out
    assert "2 requests, 0 answers looked into, 1 failed" in printed
    assert "1 times status 503: b''" in printed


def test_no_answer_at_all_fails_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Outcome([], 0.2)
    assert not print_report(found, FIXED, tmp_path / "percentiles.csv")
    assert "no good answer came in the time that counts" in capsys.readouterr().out
