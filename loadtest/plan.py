"""What is handed to Locust and back, in files of one folder; it runs in another environment.

Nothing but the standard library is imported here, because both environments import it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

SAFETENSORS = "application/x-safetensors"
JSON = "application/json"
GROUPS = ((1, 1), (2, 50), (51, 200), (201, 500), (501, 1000))
"""Numbers of candidates that are told of together, first and last."""
WARM_UP = 0.1
"""Share of each step that is not counted."""
GROWTH = 1.05
"""A step whose throughput is less than this many times the best before it has not grown."""
STEPS_WITHOUT_GROWTH = 2
"""So many in a row end a test."""

_PLAN, _QUESTIONS, _ANSWERS, _STEPS = "plan.json", "questions.jsonl", "answers.csv", "steps.csv"


@dataclass(frozen=True)
class Plan:
    """What Locust is to do."""

    models: Sequence[int]
    """Simulated models, for each step; several steps end early once throughput no longer grows."""
    seconds: float
    """Of each step."""
    rate: float | None
    """Requests per second that all models make together; None: as fast as they are answered."""
    checked: float
    """Share of the answers that are looked into."""
    widths: Mapping[str, int]
    """Numbers in a row, by version."""
    is_complete: bool
    """Whether every id that is not negative was exported."""


@dataclass(frozen=True)
class Question:
    """One request."""

    accept: str
    body: dict[str, Any]

    @property
    def candidates(self) -> int:
        """Rows asked for."""
        return len(self.body["i"])


class Answer(NamedTuple):
    """What became of one request."""

    step: int
    at: float
    """Seconds from the step's beginning to the answer."""
    candidates: int
    accept: str
    late_ms: float
    """From the time when it was due to the time when it was sent."""
    ms: float
    """From the time when it was due to the answer."""
    fault: str
    """Empty if there is none."""
    checked: int
    """1 if the answer was looked into, else 0."""


class Step(NamedTuple):
    """What one step took of the generator."""

    models: int
    seconds: float
    cpu_seconds: float
    """Of Locust."""


def group_of(candidates: int) -> str:
    """Name the group that a number of candidates belongs to.

    Parameters
    ----------
    candidates : int
        1 to 1000.

    Returns
    -------
    str
        ``1`` or ``FIRST-LAST``.
    """
    first, last = next(group for group in GROUPS if candidates <= group[1])
    return str(first) if first == last else f"{first}-{last}"


def is_counted(answer: Answer, seconds: float) -> bool:
    """Tell whether an answer counts: it came after the warm-up and within the step's time."""
    return WARM_UP * seconds <= answer.at < seconds


def throughput(answers: Iterable[Answer], step: int, seconds: float) -> float:
    """Return the answers per second of a step, without those that failed."""
    good = (a for a in answers if a.step == step and not a.fault and is_counted(a, seconds))
    return sum(1 for _ in good) / ((1 - WARM_UP) * seconds)


def goes_on(rates: Sequence[float], failed: int) -> bool:
    """Tell whether a rising test goes on to its next step.

    Parameters
    ----------
    rates : sequence of float
        Throughput of the steps so far.
    failed : int
        Answers that failed so far.

    Returns
    -------
    bool
        False once an answer failed, or throughput did not grow ``STEPS_WITHOUT_GROWTH`` times in
        a row.
    """
    if failed:
        return False
    best, without_growth = 0.0, 0
    for rate in rates:
        without_growth = without_growth + 1 if rate < GROWTH * best else 0
        best = max(best, rate)
    return without_growth < STEPS_WITHOUT_GROWTH


def write_plan(plan: Plan, questions: Iterable[Question], folder: Path) -> None:
    """Write what Locust is to do and to ask into a folder."""
    (folder / _PLAN).write_text(json.dumps(asdict(plan)), encoding="utf-8")
    with (folder / _QUESTIONS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(question)) + "\n" for question in questions)


def read_plan(folder: Path) -> tuple[Plan, list[Question]]:
    """Read what ``write_plan`` wrote."""
    with (folder / _QUESTIONS).open(encoding="utf-8") as file:
        questions = [Question(**json.loads(line)) for line in file]
    return Plan(**json.loads((folder / _PLAN).read_text(encoding="utf-8"))), questions


def write_found(answers: Iterable[Answer], steps: Iterable[Step], folder: Path) -> None:
    """Write what Locust found into a folder: ``answers.csv`` and ``steps.csv``."""
    _write_csv(folder / _ANSWERS, Answer._fields, answers)
    _write_csv(folder / _STEPS, Step._fields, steps)


def read_found(folder: Path) -> tuple[list[Answer], list[Step]]:
    """Read what ``write_found`` wrote."""
    answers = [
        Answer(int(step), float(at), int(n), accept, float(late), float(ms), fault, int(checked))
        for step, at, n, accept, late, ms, fault, checked in _read_csv(folder / _ANSWERS)
    ]
    steps = [
        Step(int(models), float(seconds), float(cpu))
        for models, seconds, cpu in _read_csv(folder / _STEPS)
    ]
    return answers, steps


def _write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def _read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]
