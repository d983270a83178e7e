"""Flags, environment, defaults, and the variables that are none of ours."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from gkc.settings import (
    Settings,
    StoreSettings,
    known_variables,
    refusals,
    unknown_variables,
    variable_warnings,
)


def test_the_contract_s_defaults() -> None:
    settings = Settings()
    assert settings.store_url == "file:./gkc-data"
    assert settings.namespace == "default"
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert (settings.max_rows, settings.max_body_bytes) == (10_000, 8_388_608)
    assert settings.request_timeout_ms == 1000


def test_flag_then_environment_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKC_PORT", "9000")
    monkeypatch.setenv("GKC_HOST", "0.0.0.0")
    settings = Settings(port=9001)
    assert (settings.host, settings.port, settings.workers) == ("0.0.0.0", 9001, 1)


def test_settings_reach_another_process_unchanged(tmp_path: Path) -> None:
    settings = Settings(port=9001, mirror_dir=tmp_path, store_url="redis://u:p@h/1", max_rows=3)
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [("workers", 0), ("port", 70_000), ("max_rows", 0), ("namespace", "a/b"), ("namespace", "")],
)
def test_wrong_values_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        StoreSettings().namespace = "other"  # type: ignore[misc]


def test_unknown_variables_have_a_nearest_name() -> None:
    environment = {
        "GKC_STORE_URI": "x",
        "gkc_port": "1",
        "GKC_PROT": "1",
        "GKC_TEST_REQUIRE": "all",
        "PATH": "/bin",
        "GKC_": "x",
    }
    nearest = unknown_variables(environment)
    assert set(nearest) == {"GKC_STORE_URI", "GKC_PROT", "GKC_"}
    assert nearest["GKC_STORE_URI"] == "GKC_STORE_URL"
    assert nearest["GKC_PROT"] == "GKC_PORT"


def test_a_warning_names_the_variable_and_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKC_WORKRES", "2")
    assert variable_warnings() == ["GKC_WORKRES is no setting of gkc; did you mean GKC_WORKERS?"]


def test_a_refusal_names_the_variable() -> None:
    with pytest.raises(ValidationError) as caught:
        StoreSettings(namespace="a/b")
    assert refusals(caught.value).startswith("GKC_NAMESPACE: ")


def test_every_setting_of_the_contract_is_known() -> None:
    assert known_variables() >= {
        *("GKC_STORE_URL", "GKC_NAMESPACE", "GKC_HOST", "GKC_PORT", "GKC_WORKERS"),
        *("GKC_MAX_ROWS", "GKC_MAX_BODY_BYTES", "GKC_REQUEST_TIMEOUT_MS"),
        *("GKC_ITEM_MEMORY_MB", "GKC_MIRROR_DIR"),
    }
