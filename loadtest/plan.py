"""What is handed to Locust and back, in files of one folder; it runs in another environment.

Nothing but the standard library is imported here, because both environments import it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

SAFETENSORS = "application/x-safetensors"
JSON = "application/json"
GROUPS = ((1, 1), (2, 50), (51, 200), (201, 500), (501, 1000))
"""Numbers of candidates that are told of together, first and last."""
WARM_UP = 0.1
"""Share of the time that is not counted."""

_PLAN, _OUTCOME = "plan.json", "outcome.json"


@dataclass(frozen=True)
class Plan:
    """What Locust is to do."""

    models: int
    """Simulated models."""
    seconds: float
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

    at: float
    """Seconds from the test's beginning to the answer."""
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
    """Tell whether an answer counts: it came after the warm-up and before the time was over."""
    return WARM_UP * seconds <= answer.at < seconds


def write_plan(plan: Plan, questions: Sequence[Question], folder: Path) -> None:
    """Write what Locust is to do and to ask into a folder."""
    told = {"plan": asdict(plan), "questions": [asdict(question) for question in questions]}
    (folder / _PLAN).write_text(json.dumps(told), encoding="utf-8")


def read_plan(folder: Path) -> tuple[Plan, list[Question]]:
    """Read what ``write_plan`` wrote."""
    told = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    return Plan(**told["plan"]), [Question(**question) for question in told["questions"]]


@dataclass(frozen=True)
class Outcome:
    """What a run of Locust found."""

    answers: Sequence[Answer]
    cpu_share: float
    """Locust's CPU time, as a share of a core; near 1 the limit is its own."""


def write_outcome(outcome: Outcome, folder: Path) -> None:
    """Write what Locust found into a folder."""
    told = json.dumps([outcome.cpu_share, *outcome.answers])
    (folder / _OUTCOME).write_text(told, encoding="utf-8")


def read_outcome(folder: Path) -> Outcome:
    """Read what ``write_outcome`` wrote."""
    cpu_share, *answers = json.loads((folder / _OUTCOME).read_text(encoding="utf-8"))
    return Outcome([Answer(*answer) for answer in answers], cpu_share)
