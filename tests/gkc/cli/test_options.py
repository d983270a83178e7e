"""Flags become settings; variables that are none of ours are warned about."""

from __future__ import annotations

import pytest
import typer

from gkc.cli.options import load
from gkc.settings import Settings, StoreSettings


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
