"""Spans of a publication are those that the logs tell of."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.arrivals import ANSWER, Answers
from bench.publication import (
    GRACE_SECONDS,
    Publication,
    read_mirrors,
    read_publication,
    round_of,
)


def lines(*events: dict[str, object]) -> str:
    return "a warning of a library\n" + "\n".join(map(json.dumps, events))


LOG: list[dict[str, object]] = [
    {"event": "export_phase", "phase": "write", "timestamp": "10"},
    {"event": "export_phase", "phase": "verify", "timestamp": "20"},
    {"event": "export_phase", "phase": "publish", "timestamp": "25"},
    {"event": "generation_published", "generation": "3-c", "timestamp": "26"},
    {"event": "export_phase", "phase": "evict", "timestamp": "27"},
    {"event": "generation_deleted", "generation": "2-b", "timestamp": "32"},
]


def test_a_publication_is_read_from_the_exporters_log() -> None:
    assert read_publication(lines(*LOG), float) == Publication("3-c", 10.0, 26.0)


@pytest.mark.parametrize("missing", [0, 3, 5])
def test_a_log_without_one_of_its_steps_is_refused(missing: int) -> None:
    with pytest.raises(SystemExit, match="does not tell"):
        read_publication(lines(*LOG[:missing], *LOG[missing + 1 :]), float)


def test_mirrors_are_read_from_the_services_log() -> None:
    built = {"event": "mirror_built", "generation": "3-c", "seconds": 0.25}
    assert read_mirrors(lines(built, {"event": "generation_loaded"})) == {"3-c": 0.25}


def test_each_part_has_the_answers_that_were_due_in_it() -> None:
    due = np.arange(0.0, 60.0)
    records = np.zeros(len(due), dtype=ANSWER)
    records["due_s"], records["latency_s"], records["status"] = due, due / 1000, 200
    found = round_of(Answers(records), (2.0, 8.0), Publication("3-c", 10.0, 26.0), 26.5, 0.25)
    spans = {
        "quiet": (2, 8),
        "exporting": (10, 26),
        "loading": (26, 26 + GRACE_SECONDS),
        "deleting": (26 + GRACE_SECONDS, 26 + 2 * GRACE_SECONDS),
        "publication": (10, 26 + 2 * GRACE_SECONDS),
    }
    for name, (start, end) in spans.items():
        assert getattr(found, name).records["due_s"].tolist() == list(range(start, end)), name
    assert found.serving_seconds == 0.5
    assert found.ratio(found.quiet) == 1
    assert found.ratio(found.loading) > found.ratio(found.exporting) > 1
