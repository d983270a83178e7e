from __future__ import annotations

import pytest
from pydantic import ValidationError

from exporter.settings import ExportSettings


def test_the_default_needs_no_server() -> None:
    assert ExportSettings().store_url == "file:./gkc-data"
    assert ExportSettings().namespace == "default"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKC_STORE_URL", "redis://h:1/0")
    monkeypatch.setenv("GKC_NAMESPACE", "shop.a")
    assert (ExportSettings().store_url, ExportSettings().namespace) == ("redis://h:1/0", "shop.a")


@pytest.mark.parametrize("namespace", ["", "a:b", "a/b", "é", "x" * 65])
def test_a_namespace_is_a_plain_name(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKC_NAMESPACE", namespace)
    with pytest.raises(ValidationError):
        ExportSettings()
