"""The operators' port: each path is behind one of the two doors."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gkc.http.admin import AdminServer
from gkc.http.api_keys import line_of, new_key
from gkc.http.run import server_options
from tests.gkc.http.running import running
from tests.gkc.world import Worlds

ADMIN = ("/metrics", "/openapi.json", "/docs", "/docs/swagger-ui.css")


@pytest.fixture
async def doors(
    worlds: Worlds, tmp_path: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Yield callers of a service, who have a key, and its operators, who have none."""
    key, keys = new_key(), tmp_path / "keys"
    keys.write_text(line_of("web", key))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with running(worlds.url, api_keys_file=keys, admin_port=port) as (caller, service):
            caller.headers["authorization"] = f"Bearer {key}"
            server = AdminServer(service.admin, listener, server_options(service.metrics))
            await server.begin()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as operator:
                yield caller, operator
            server.end()


async def test_each_path_is_behind_one_door(
    doors: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    caller, operator = doors
    for path in ADMIN:
        assert (await operator.get(path)).status_code == 200
        refused = await caller.get(path)
        assert refused.status_code == 404
        assert "ask at the port that GKC_ADMIN_PORT names" in refused.json()["detail"]
    for path in ("/versions", "/knowledge", "/x"):
        refused = await operator.get(path)
        assert refused.status_code == 404
        assert "ask at the port that GKC_PORT names" in refused.json()["detail"]
    assert (await caller.get("/versions")).status_code == 200
    for client in doors:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


async def test_what_both_doors_answer_is_counted_together(
    doors: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    caller, operator = doors
    for _ in range(3):
        await caller.get("/versions")
    told = (await operator.get("/metrics")).text
    assert 'gkc_requests_total{code="200",route="/versions"} 3.0' in told
