"""What goes through FastAPI: documentation, the other routes, its own errors."""

from __future__ import annotations

from typing import Any

import pytest

from gkc.service import answering, app, routes, run, serving
from tests.gkc.service.running import Session, ask, running
from tests.gkc.world import Worlds


def test_docs_are_served(asked: Session) -> None:
    response = asked.get("/docs")
    assert response.status_code == 200
    assert "openapi.json" in response.text


def test_livez(asked: Session) -> None:
    assert asked.get("/livez").json() == {"status": "alive"}


@pytest.mark.parametrize("path", ["/versions", "/livez", "/metrics"])
async def test_other_methods_are_problems(worlds: Worlds, path: str) -> None:
    async with running(worlds.url) as (client, _):
        response = await client.post(path)
        assert response.status_code == 405
        assert response.headers["content-type"] == "application/problem+json"
        assert "GET" in response.headers["allow"]


async def test_an_unforeseen_error_is_500_and_the_service_goes_on(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    async with running(worlds.url) as (client, service):
        with monkeypatch.context() as patch:
            patch.setattr(service.serving, "check_ready", broken)
            patch.setattr(service.serving, "resolve", broken)
            for response in (
                await client.get("/readyz"),
                await ask(client, {"u": 7, "i": 11, "v": "half"}),
            ):
                assert response.status_code == 500
                assert response.headers["content-type"] == "application/problem+json"
                assert "secret" not in response.text
                assert response.json()["title"] == "Internal error"
        assert (await ask(client, {"u": 7, "i": 11, "v": "half"})).status_code == 200


def test_the_service_has_no_way_to_write() -> None:
    named = {name for module in (app, answering, routes, serving, run) for name in vars(module)}
    assert "KnowledgeReader" in named
    assert not named & {"open_publisher", "Publisher", "StagedGeneration"}
