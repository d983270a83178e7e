"""Tables are not cut where there is no terminal."""

from __future__ import annotations

import pytest

from gkc.cli.output import console


def test_long_lines_stay_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"
