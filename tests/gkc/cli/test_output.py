"""Tables are not cut where there is no terminal."""

from __future__ import annotations

import pytest
from rich.table import Table

from gkc.cli.output import console, printable


def test_long_lines_stay_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"


def test_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[/x] :cat:", "[bold]x[/bold]"]
    console().print(Table(*names, title=" ".join(names)))
    told = capsys.readouterr().out
    assert [told.count(name) for name in names] == [2, 2]


def test_what_cannot_be_seen_is_written_out() -> None:
    assert printable("\N{SNOWMAN} [/a]") == "\N{SNOWMAN} [/a]"
    assert printable("a\x1b[0m\n") == r"'a\x1b[0m\n'"
