from __future__ import annotations

import os
import sys

import pytest

from gkc.progress import progress


def test_a_bar_is_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as terminal, os.fdopen(leader, "rb", buffering=0) as shown:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress("counting", 2) as advance:
            advance(2)
        terminal.flush()
        assert b"counting" in shown.read(10_000)


def test_nothing_is_shown_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("counting", None) as advance:
        advance(2)
    assert "".join(capsys.readouterr()) == ""
