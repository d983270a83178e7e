"""What a client in its caller's process is told: arguments, then the environment, then defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from gkc import AsyncClient, Client
from gkc.client.following import settings_of
from gkc.errors import ClientUsageError, StoreUrlError
from tests.gkc.world import make_world


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of("file:x", None, None).namespace == "default"
    monkeypatch.setenv("GKC_NAMESPACE", "a")
    monkeypatch.setenv("GKC_MIRROR_DIR", "/b")
    monkeypatch.setenv("GKC_PORT", "none that concerns a client")
    told = settings_of("file:x", None, None)
    assert (told.store_url, told.namespace, told.mirror_dir) == ("file:x", "a", Path("/b"))
    told = settings_of("file:x", "c", "/d")
    assert (told.namespace, told.mirror_dir) == ("c", Path("/d"))


def test_a_namespace_is_that_of_gkc_serve(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generations = {name: make_world("v1").publish(url, name).generation for name in ("a", "b")}
    monkeypatch.setenv("GKC_NAMESPACE", "a")
    for namespace, expected in ((None, "a"), ("b", "b")):
        with Client(url, timeout=30, namespace=namespace) as client:
            answer = client.knowledge(u=7, i=11, v="v1")
            assert answer.versions == {"v1": generations[expected]}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_options_are_refused_when_it_is_made(
    kind: type[Client | AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClientUsageError, match=r"^namespace= must match"):
        kind("file:x", namespace="a b")
    with pytest.raises(StoreUrlError, match="host"):
        kind("redis://")
    monkeypatch.setenv("GKC_NAMESPACE", "a b")
    with pytest.raises(ClientUsageError, match=r"^GKC_NAMESPACE: must match"):
        kind("file:x")
    monkeypatch.delenv("GKC_NAMESPACE")
    monkeypatch.setenv("GKC_REFRESH_MS", "soon")
    with pytest.raises(ClientUsageError, match=r"^GKC_REFRESH_MS: must be a valid integer"):
        kind("file:x")
