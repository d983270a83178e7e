"""``GET /readyz``: what is wrong with this host, not with what all hosts share."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from gkc.errors import StoreUnavailableError
from gkc.http import readiness
from gkc.http.app import Service
from gkc.http.host import Host, Seat, WorkerState
from gkc.settings import Settings
from gkc.store import open_reader
from tests.gkc.http.running import eventually, is_ready, unreliable
from tests.gkc.world import make_world


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"file:{tmp_path / 'store'}"
    make_world("v1").publish(url)
    return url


async def test_it_may_need_the_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_OUTAGE_SECONDS", 0.1)
    async with unreliable(url, ready_needs_store=True) as (client, _, reader):
        reader.failures["catalogue"] = StoreUnavailableError("x", "refused")
        await eventually(lambda: _is_unready(client, "refused"))
        del reader.failures["catalogue"]
        await eventually(lambda: is_ready(client))


async def _is_unready(client: httpx.AsyncClient, cause: str, path: str = "/readyz") -> bool:
    response = await client.get(path)
    return response.status_code == 503 and cause in response.json()["detail"]


async def test_a_worker_tells_of_its_whole_host(url: str) -> None:
    host = Host(2, stuck_seconds=0.05)
    own, other = Seat(host, 0), Seat(host, 1)
    service = Service(Settings(store_url=url, refresh_ms=5), open_reader(url), host=host)
    transport = httpx.ASGITransport(service)
    async with (
        service.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://gkc") as client,
    ):
        await service.serving.wait_until_ready()
        own.state, other.state = WorkerState.READY, WorkerState.STARTING
        assert await _is_unready(client, "1 of 2 workers")
        other.state = WorkerState.READY
        assert await is_ready(client)
        other.beat()
        await eventually(lambda: _is_unready(client, "stand still", "/livez"))
        host.drain()
        assert await _is_unready(client, "being stopped")
