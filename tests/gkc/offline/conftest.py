"""What tests of joins have in common."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files of a folder joined in this process, which takes less time to begin."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
