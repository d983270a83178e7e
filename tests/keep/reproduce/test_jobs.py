"""What a job finds for a system beside the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from keep.reproduce.jobs import taken
from keep.reproduce.workshop import Workshop
from keep.systems.base import BASE
from tests.keep.tiny import CONFIG, tiny_log


def test_what_no_job_finds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(tiny_log(tmp_path / "log").path, tmp_path / "out", CONFIG.behaviours)
    assert taken(shop, "base", 1, None) is None
    monkeypatch.setattr("keep.reproduce.jobs.SYSTEMS", {"newer": replace(BASE, takes=dict)})
    with pytest.raises(TypeError, match="system 'newer' takes dict"):
        taken(shop, "newer", 1, None)
