"""The Grafana dashboard against a live service, scraped by a real Prometheus."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.acceptance.bundles import RECIPES, write_bundle
from tests.commands import Place, export, free_port, service, wait_for
from tests.metric_names import metric_names

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/gkc.json").read_text())
QUERIES = [
    target["expr"].replace("$__rate_interval", "10s")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
VERSION = "20211220"
DEADLINE_SECONDS = 60.0
"""Time within which every query must have data; a scrape takes place each second."""


@pytest.fixture
def prometheus_binary() -> str:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no Prometheus: install the package `prometheus`")
    return binary


def _start_prometheus(binary: str, folder: Path, target: str) -> tuple[subprocess.Popen[str], str]:
    """Start Prometheus on the repository's own scrape file, but for the address and the pace."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [binary, f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    return subprocess.Popen(command, text=True), f"http://{address}"


def _has_data(prometheus: httpx.Client, query: str) -> bool:
    answer = prometheus.get("/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", f"{query}: {answer}"
    # A route that nobody asks has quantiles of nothing (NaN); one that is asked must have some.
    return any(math.isfinite(float(each["value"][1])) for each in answer["data"]["result"])


def _ask(url: str) -> None:
    """Ask for known and unknown ids of a version, and for a version that there is not."""
    question = {"u": 1, "i": [1, 2, 10**12], "c": [1, 1, 10**12]}
    with httpx.Client(base_url=url) as client:
        for changed, code in (
            ({"v": VERSION}, 200),
            ({"v": VERSION, "u": 10**12}, 200),
            ({"v": "no-such-version"}, 404),
        ):
            assert client.post("/knowledge", json={**question, **changed}).status_code == code


@pytest.fixture
def scraped_service(
    prometheus_binary: str, redis_server_url: str, redis_namespace: str, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """Yield the URLs of a service of two workers on Redis, and of a Prometheus that scrapes it."""
    write_bundle(tmp_path / "bundle", RECIPES[0])
    place = Place(redis_server_url, redis_namespace)
    export(tmp_path / "bundle", VERSION, place)
    settings = {"GKC_MIRROR_DIR": str(tmp_path / "mirror"), "GKC_USER_CACHE_MB": "8"}
    with service(place, "--workers", 2, env=settings) as url:
        process, prometheus_url = _start_prometheus(
            prometheus_binary, tmp_path, url.removeprefix("http://")
        )
        try:
            wait_for(f"{prometheus_url}/-/ready", process)
            yield url, prometheus_url
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.redis
@pytest.mark.slow
def test_every_query_of_the_dashboard_returns_data(scraped_service: tuple[str, str]) -> None:
    url, prometheus_url = scraped_service
    waiting = list(QUERIES)
    deadline = time.monotonic() + DEADLINE_SECONDS
    with httpx.Client(base_url=prometheus_url) as prometheus:
        while waiting and time.monotonic() < deadline:
            _ask(url)
            time.sleep(0.3)
            waiting = [query for query in waiting if not _has_data(prometheus, query)]
    assert waiting == []


def test_the_dashboard_shows_every_metric_of_the_service() -> None:
    names = {name for query in QUERIES for name in re.findall(r"\bgkc_\w+", query)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert shown == metric_names()


def test_panels_have_distinct_ids_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for p in (panel["gridPos"] for panel in panels)
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
