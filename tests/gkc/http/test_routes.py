"""The endpoints besides the hot one, and what the hot one takes from its headers."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import httpx
import pytest

from gkc.http.app import Service
from gkc.settings import Settings
from gkc.store import open_reader
from gkc.store.catalogue import Catalogue
from tests.gkc.http.running import JSON, SAFETENSORS, Session
from tests.gkc.world import Worlds

GOOD = {"u": 7, "i": [11, 12], "v": "half"}


@pytest.mark.parametrize(
    ("accept", "answered"),
    [("*/*", JSON), ("application/json", JSON), (SAFETENSORS, SAFETENSORS), ("", JSON)],
)
def test_the_answer_is_of_the_type_asked_for(asked: Session, accept: str, answered: str) -> None:
    response = asked.post(GOOD, headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == answered
    assert int(response.headers["content-length"]) == len(response.content)


def test_status_has_four_columns_whatever_is_asked(asked: Session) -> None:
    for parts in (["user"], ["user_item", "user_category"]):
        assert [len(s) for s in asked.post(GOOD | {"parts": parts}).json()["status"]] == [4, 4]


def test_versions_are_listed(asked: Session, worlds: Worlds) -> None:
    body = asked.get("/versions").json()
    assert body["max_versions"] == len(body["versions"])
    found = {v["version"]: v for v in body["versions"]}
    assert found["half"]["generation"] == worlds["half"].generation
    assert all(v["ready"] for v in found.values())


async def test_metrics_are_rendered_once_for_all_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file:{tmp_path}"
    service = Service(Settings(store_url=url), open_reader(url))
    render, rendered = service.metrics.render, count()

    def counted(catalogue: Catalogue | None, is_store_up: bool) -> bytes:
        return render(catalogue, is_store_up) + b"# %d\n" % next(rendered)

    monkeypatch.setattr(service.metrics, "render", counted)
    transport = httpx.ASGITransport(service)
    async with (
        service.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://gkc") as client,
    ):
        told = await asyncio.gather(*(client.get("/metrics") for _ in range(30)))
        later = await client.get("/metrics")
    assert {answer.status_code for answer in told} == {200}
    last = [int(answer.text.splitlines()[-1].removeprefix("# ")) for answer in (*told, later)]
    assert last[-1] == max(last[:-1]) + 1, "what is asked for later is told anew"
    assert last[-1] < 10


def test_it_lives_and_is_ready(asked: Session) -> None:
    assert asked.get("/livez").json() == {"status": "alive"}
    assert asked.get("/readyz").json() == {"status": "ready"}
