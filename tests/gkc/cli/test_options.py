"""Flags become settings; variables that are none of ours are warned about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

import gkc
from gkc.cli.options import load, whole_number
from gkc.settings import Settings, StoreSettings
from tests.commands import Place
from tests.gkc.cli.in_process import done


def test_flags_that_were_not_given_leave_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GKC_STORE_URL", "redis://a")
    assert load(StoreSettings, store_url=None).store_url == "redis://a"
    assert load(StoreSettings, store_url="redis://b").store_url == "redis://b"


def test_a_refused_value_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKC_MAX_ROWS", "many")
    with pytest.raises(typer.BadParameter, match="GKC_MAX_ROWS"):
        load(Settings)


def test_a_misspelt_variable_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GKC_WORKER", "2")
    assert load(Settings).workers == 1
    told = capsys.readouterr().err
    assert told == "gkc: warning: GKC_WORKER is no setting of gkc; did you mean GKC_WORKERS?\n"


@pytest.mark.parametrize(
    "text", ["", "x", "1.0", "-1", "6", "1_0", "9" * 30, "\N{SUPERSCRIPT TWO}"]
)
def test_whole_numbers(text: str) -> None:
    assert [whole_number(0, 5)(good) for good in ("0", "5", "+3")] == [0, 5, 3]
    with pytest.raises(typer.BadParameter, match=r"no whole number from 0 to 5"):
        whole_number(0, 5)(text)


def test_the_version_of_gkc(tmp_path: Path) -> None:
    assert done("--version", place=Place(f"file:{tmp_path}", "x")) == f"gkc {gkc.__version__}\n"


@pytest.mark.parametrize("command", ["", "serve", "get", "verify", "versions", "versions delete"])
def test_help_shows_nothing_of_what_parses_it(command: str, tmp_path: Path) -> None:
    told = done(*command.split(), "--help", place=Place(f"file:{tmp_path}", "x"))
    assert not re.search(r"range>|<=x|x>=|\w\.\.\.$", told, re.MULTILINE)
