"""Spans of a publication are those that the logs tell of."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import publication
from bench.arrivals import ANSWER, Answers
from bench.publication import (
    GRACE_SECONDS,
    Publication,
    loaded_at,
    read_publication,
    round_of,
    section,
)


def lines(*events: dict[str, object]) -> str:
    return "a warning of a library\n" + "".join(json.dumps(event) + "\n" for event in events)


LOG: list[dict[str, object]] = [
    {"event": "export_phase", "phase": "write", "timestamp": "10"},
    {"event": "export_phase", "phase": "verify", "timestamp": "20"},
    {"event": "export_phase", "phase": "publish", "timestamp": "25"},
    {"event": "generation_published", "generation": "3-c", "timestamp": "26"},
    {"event": "export_phase", "phase": "evict", "timestamp": "27"},
    {"event": "generation_deleted", "generation": "2-b", "timestamp": "32"},
]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "monotonic_of", float)


def test_a_publication_is_read_from_the_exporters_log() -> None:
    assert read_publication(lines(*LOG)) == Publication("3-c", 10.0, 26.0)


@pytest.mark.parametrize("missing", [0, 3, 5])
def test_a_log_without_one_of_its_steps_is_refused(missing: int) -> None:
    with pytest.raises(SystemExit, match="does not tell"):
        read_publication(lines(*LOG[:missing], *LOG[missing + 1 :]))


def test_when_it_serves_is_read_from_the_services_log() -> None:
    log: list[dict[str, object]] = [
        {"event": "generation_loaded", "generation": generation, "timestamp": at}
        for generation, at in (("2-b", "1"), ("3-c", "26.5"))
    ]
    assert loaded_at(lines({"event": "mirror_built"}, *log), "3-c") == 26.5


def test_each_part_has_the_answers_that_were_due_in_it() -> None:
    due = np.arange(0.0, 60.0)
    records = np.zeros(len(due), dtype=ANSWER)
    records["due_s"], records["latency_s"], records["status"] = due, due / 1000, 200
    found = round_of(Answers(records), (2.0, 8.0), Publication("3-c", 10.0, 26.0), 26.5)
    spans = {
        "exporting": (10, 26),
        "loading": (26, 26 + GRACE_SECONDS),
        "deleting": (26 + GRACE_SECONDS, 26 + 2 * GRACE_SECONDS),
        "publication and deletion": (10, 26 + 2 * GRACE_SECONDS),
    }
    assert found.quiet.records["due_s"].tolist() == list(range(2, 8))
    for name, (start, end) in spans.items():
        assert found.parts[name].records["due_s"].tolist() == list(range(start, end)), name
    assert found.serving_seconds == 0.5
    assert found.ratio("loading") > found.ratio("exporting") > 1

    told = section([found], [found], 100.0)
    wanted = {figure.name: figure.bounds for figure in told.figures if figure.verdict}
    assert wanted == {f"p99 during {name} against quiet p99": "≤ 2 / ≤ 1.3" for name in spans} | {
        "p99 in a publication, to the commit before": "≤ 1.03",
        "requests that failed in a publication or before it": "≤ 0",
    }
