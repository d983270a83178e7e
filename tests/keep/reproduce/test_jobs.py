"""What a job needs to train a system."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from keep.reproduce.jobs import Trial
from keep.reproduce.workshop import Workshop
from keep.systems.base import BASE, Options
from tests.keep.tiny import CONFIG, tiny_log


def test_a_system_that_takes_what_no_job_finds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(tiny_log(tmp_path / "log").path, tmp_path / "out", CONFIG.behaviours)
    monkeypatch.setattr("keep.reproduce.jobs.SYSTEMS", {"newer": replace(BASE, takes=dict)})
    trial = Trial("newer", "newer", 0, Options(), seed=1)
    with pytest.raises(TypeError, match="system 'newer' takes dict, which no job finds"):
        trial.do(shop)
