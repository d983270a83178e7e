"""Who exports is told how far it is."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from exporter.progress import PhaseProgress


def test_off_a_terminal_each_phase_that_writes_is_one_log_line() -> None:
    with capture_logs() as logs, PhaseProgress(on_terminal=False) as progress:
        progress.start("validate", None)
        progress.start("write", 10, generation="g")
        progress.advance(10)
        progress.start("evict", None)
        assert progress.phase == "evict"
    assert [(e["event"], e["phase"]) for e in logs] == [
        ("export_phase", "write"),
        ("export_phase", "evict"),
    ]
    assert logs[0]["generation"] == "g"


def test_on_a_terminal_there_are_bars_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capture_logs() as logs, PhaseProgress(on_terminal=True) as progress:
        progress.start("write", 10)
        progress.advance(4)
    assert logs == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "write" in captured.err
    assert "4/10" in captured.err
