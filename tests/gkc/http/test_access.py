"""Who may call: everything but two paths asks for a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gkc.http.api_keys import line_of, new_key
from tests.gkc.http.running import JSON, QUESTION, Session, session
from tests.gkc.world import Worlds


@dataclass(frozen=True)
class Locked:
    key: str
    asked: Session


@pytest.fixture(scope="module")
def locked(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """Run a service that lets in one key."""
    key, path = new_key(), tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(line_of("web", key))
    with session(worlds.url, api_keys_file=path) as opened:
        yield Locked(key, opened)


@pytest.mark.parametrize(
    "path", ["/knowledge", "/versions", "/metrics", "/openapi.json", "/docs", "/livez/", "/x"]
)
def test_without_a_key_nothing_is_answered(locked: Locked, path: str) -> None:
    response = locked.asked.get(path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"]
    assert response.json()["type"] == "urn:gkc:problem:unauthorized"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_whoever_watches_it_needs_no_key(locked: Locked, path: str) -> None:
    assert locked.asked.get(path).status_code == 200


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {} "])
def test_with_a_key_it_is_answered(locked: Locked, form: str) -> None:
    shown = {"authorization": form.format(locked.key)}
    response = locked.asked.post(QUESTION | {"v": "half"}, headers=shown)
    assert response.status_code == 200


@pytest.mark.parametrize("form", ["{}", "Basic {}", "Bearer", "Bearer {}x", "Bearer {}, Bearer {}"])
def test_what_shows_no_key_is_refused_and_not_repeated(locked: Locked, form: str) -> None:
    shown = {"authorization": form.format(locked.key, locked.key), "content-type": JSON}
    response = locked.asked.post(content=b"not even JSON", headers=shown)
    assert response.status_code == 401
    assert locked.key not in response.text
