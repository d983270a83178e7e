"""What goes through FastAPI: documentation, the other routes, its own errors."""

from __future__ import annotations

from typing import Any

import pytest

from gkc.answering import answering, serving
from gkc.http import app, routes, run
from tests.gkc.http.running import Session, ask, running
from tests.gkc.world import Worlds


def test_livez(asked: Session) -> None:
    assert asked.get("/livez").json() == {"status": "alive"}


@pytest.mark.parametrize("path", ["/versions", "/livez", "/metrics"])
async def test_other_methods_are_problems(worlds: Worlds, path: str) -> None:
    async with running(worlds.url) as (client, _):
        response = await client.post(path)
        assert response.status_code == 405
        assert response.headers["content-type"] == "application/problem+json"
        assert "GET" in response.headers["allow"]


@pytest.mark.parametrize("path", ["/versions", "/livez", "/readyz", "/metrics", "/docs"])
async def test_head_is_answered_like_get(worlds: Worlds, path: str) -> None:
    async with running(worlds.url) as (client, _):
        got, head = await client.get(path), await client.head(path)
        assert head.status_code == got.status_code == 200
        assert head.headers["content-type"] == got.headers["content-type"]
        assert int(head.headers["content-length"]) > 0
        assert head.content == b""


async def test_head_of_what_is_not_there(worlds: Worlds) -> None:
    async with running(worlds.url) as (client, _):
        assert (await client.head("/nothing")).status_code == 404
        assert (await client.head("/knowledge")).status_code == 405


@pytest.mark.parametrize("path", ["/knowledge", "/versions", "/livez", "/docs"])
async def test_a_slash_too_many_leads_to_the_path_without_it(worlds: Worlds, path: str) -> None:
    method = "POST" if path == "/knowledge" else "GET"
    async with running(worlds.url) as (client, _):
        evil = {"host": "evil.example/x?y"}
        moved = await client.request(method, f"{path}/?a=b", headers=evil)
        assert moved.status_code == 307, "the method and the body are to be sent again"
        assert moved.headers["location"] == f"..{path}?a=b"
        assert "evil" not in str(moved.headers) + moved.text
        assert path in moved.json()["detail"]
        question = {"u": 7, "i": 11, "v": "half"}
        followed = await client.request(method, f"{path}/", json=question, follow_redirects=True)
        assert followed.status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/nothing/", "/versions//", "//versions/", "/"])
async def test_a_path_that_is_not_there_is_named(worlds: Worlds, path: str) -> None:
    async with running(worlds.url) as (client, _):
        response = await client.get(f"http://gkc{path}")
        assert response.status_code == 404
        assert path in response.json()["detail"]


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
