"""Names, labels and sums of the metrics."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from gkc.http.metrics import Metrics
from gkc.http.tally import AnsweredRows
from tests.gkc.http.running import SAFETENSORS, ask, running
from tests.gkc.world import ITEMS, STRANGERS, Worlds

CONTRACT = {
    "gkc_requests_total": {"route", "code"},
    "gkc_request_duration_seconds": {"route"},
    "gkc_request_rows": {"route"},
    "gkc_parts_total": {"version", "part", "status"},
    "gkc_store_duration_seconds": {"operation"},
    "gkc_store_errors_total": {"operation"},
    "gkc_inflight_requests": set(),
    "gkc_store_up": set(),
    "gkc_rejected_total": {"reason"},
    "gkc_open_connections": set(),
    "gkc_answer_bytes_inflight": set(),
    "gkc_build_info": {"version", "python"},
    "gkc_version_info": {"version", "generation"},
    "gkc_version_published_timestamp_seconds": {"version"},
}


async def scrape(client: httpx.AsyncClient) -> dict[str, float]:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_names_and_labels_are_the_contract_s(worlds: Worlds) -> None:
    async with running(worlds.url) as (client, _):
        await ask(client, {"u": 7, "i": 11, "v": "half"})
        found: dict[str, set[str]] = {}
        for sample in await scrape(client):
            name, _, labels = sample.partition("{")
            name = re.sub(r"_(bucket|count|sum)$", "", name)
            keys = set(re.findall(r'(\w+)="', labels)) - {"le"}
            found.setdefault(name, set()).update(keys)
    assert found == CONTRACT


async def test_requests_parts_and_rows_are_counted(worlds: Worlds) -> None:
    async with running(worlds.url) as (client, _):
        body = {"u": 7, "i": [ITEMS[0], STRANGERS[0]], "v": ["half", "half-defaults"]}
        for accept in ("application/json", SAFETENSORS):
            assert (await ask(client, body, accept=accept)).status_code == 200
        assert (await ask(client, body | {"parts": ["item"]})).status_code == 200
        assert (await ask(client, {"u": 7})).status_code == 422
        for path in ("/livez", "/nowhere", "/elsewhere"):
            await client.get(path)
        found = await scrape(client)
    assert found['gkc_requests_total{code="200",route="/knowledge"}'] == 3
    assert found['gkc_requests_total{code="422",route="/knowledge"}'] == 1
    assert found['gkc_requests_total{code="200",route="/livez"}'] == 1
    assert found['gkc_requests_total{code="404",route="other"}'] == 2
    assert found['gkc_request_duration_seconds_count{route="/knowledge"}'] == 4
    assert found['gkc_request_rows_sum{route="/knowledge"}'] == 6
    assert found['gkc_parts_total{part="user",status="found",version="half"}'] == 2
    assert found['gkc_parts_total{part="item",status="found",version="half"}'] == 3
    assert found['gkc_parts_total{part="item",status="default",version="half-defaults"}'] == 3
    assert found['gkc_parts_total{part="user_item",status="default",version="half-defaults"}'] == 2
    assert found["gkc_inflight_requests"] == 1
    generation = worlds["half"].generation
    assert found[f'gkc_version_info{{generation="{generation}",version="half"}}'] == 1
    assert found['gkc_version_published_timestamp_seconds{version="half"}'] > 1.7e9


@pytest.mark.parametrize(("n", "possible"), [(0, (0, 3)), (1, (0, 3)), (7, (0, 3)), (7, (1, 2))])
def test_parts_are_counted_by_status(n: int, possible: tuple[int, int]) -> None:
    metrics = Metrics()
    status = np.random.default_rng(n).integers(*possible, (n, 4)).astype(np.uint8)
    counts = [(status[:, part] == value).sum() for part in range(4) for value in range(3)]
    counted = {"v": np.array(counts, dtype=np.int64)}
    metrics.tally.answers.append(AnsweredRows("/knowledge", n, ("user", "user_category"), counted))
    metrics.add_tally()
    text = metrics.render(None, True).decode()
    for part, column in (("user", 0), ("user_category", 3)):
        for value, name in enumerate(("absent", "found", "default")):
            count = int((status[:, column] == value).sum())
            line = f'gkc_parts_total{{part="{part}",status="{name}",version="v"}} {count}.0\n'
            assert (line in text) == (count > 0)
    assert 'part="item"' not in text


def test_scrapes_that_meet_forget_the_same_dead_workers(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    for pid in range(5_000_000, 5_002_000):  # more than Linux gives
        (tmp_path / f"gauge_livesum_{pid}.db").touch()
    with ThreadPoolExecutor(4) as pool:
        scrapes = [pool.submit(metrics.render, None, True) for _ in range(8)]
    assert all(b"gkc_build_info" in scrape.result() for scrape in scrapes)
    assert not list(tmp_path.iterdir())
