"""Every guard is timed against the same without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import guards
from bench.guards import main
from bench.results import Section


def test_every_guard_is_timed(
    kept: Callable[[str], Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "CALLS", 2)
    main(rounds=2, save=True)
    figures = kept("guards").figures
    assert len(figures) >= 9
    assert all(len(figure.values) == 2 and figure.unit == "us" for figure in figures)
