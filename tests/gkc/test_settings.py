"""Flags, environment, defaults, and the variables that are none of ours."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gkc.settings import (
    CallerSettings,
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
    assert (settings.store_timeout_ms, settings.request_timeout_ms) == (500, 10_000)


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
    [
        *[("workers", 0), ("workers", 1025), ("port", 70_000), ("max_rows", 0)],
        *[("drain_seconds", 1e300), ("drain_delay_seconds", float("nan")), ("stuck_seconds", 1e6)],
        *[("namespace", "a/b"), ("namespace", "")],
    ],
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


@pytest.mark.parametrize("name", ["MIRROR_DIR", "API_KEYS_FILE", "TLS_CERT_FILE"])
def test_an_empty_path_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"GKC_{name}", "")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert refusals(caught.value) == f"GKC_{name}: is empty; name a path, or do not set it"


def test_every_setting_of_the_contract_is_known() -> None:
    assert known_variables() >= {
        *("GKC_STORE_URL", "GKC_NAMESPACE", "GKC_HOST", "GKC_PORT", "GKC_WORKERS"),
        *("GKC_MAX_ROWS", "GKC_MAX_BODY_BYTES", "GKC_REQUEST_TIMEOUT_MS"),
        *("GKC_STORE_TIMEOUT_MS", "GKC_ITEM_MEMORY_MB", "GKC_MIRROR_DIR"),
        *("GKC_API_KEYS_FILE", "GKC_ALLOW_ANONYMOUS", "GKC_ADMIN_PORT"),
    }


@pytest.mark.parametrize(
    ("told", "is_open"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "127.8.9.1"}, False),
        ({"host": ""}, True),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::ffff:10.0.0.1"}, True),
        ({"host": "0.0.0.0", "allow_anonymous": True}, False),
        ({"host": "0.0.0.0", "api_keys_file": Path("keys")}, False),
        ({"host": "0.0.0.0", "tls_cert_file": Path("c")}, True),
        (
            {"host": "0.0.0.0", "tls_cert_file": Path("c"), "tls_client_ca_file": Path("a")},
            False,
        ),
    ],
)
def test_who_may_call_other_than_loopback_has_to_be_said(
    told: dict[str, Any], is_open: bool
) -> None:
    assert Settings(**told).is_open_unasked == is_open


@pytest.mark.parametrize("name", ["tls_key_file", "tls_client_ca_file"])
def test_what_tls_needs_a_certificate_for_is_refused_without(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{name: Path("x")})  # type: ignore[arg-type]
    assert "needs GKC_TLS_CERT_FILE" in refusals(caught.value)


def test_a_caller_s_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKC_API_KEY", "secret")
    assert "secret" not in repr(CallerSettings())
    assert "GKC_API_KEY" in known_variables()
