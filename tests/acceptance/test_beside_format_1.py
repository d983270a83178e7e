"""A store that holds what a gkc of format 1 left: the way to this one, without a failed request."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
import redis

from tests.acceptance.bundles import Recipe, write_bundle
from tests.commands import PATIENT, Place, http_once, service
from tests.gkc.store.old_stores import put_old_files, put_old_keys
from tests.in_process import command, done, export

WORDS = ("earlier gkc", "another GKC_NAMESPACE", "switch the service", "delete --old-format --yes")
BODY = {"u": 1, "i": [1, 2, 3], "v": "v"}


@pytest.fixture
def old(place: Place) -> Place:
    """A namespace in which format 1 lies."""
    if place.url.startswith("file:"):
        put_old_files(Path(place.url.removeprefix("file:")) / place.namespace)
    else:
        with redis.Redis.from_url(place.url) as client:
            put_old_keys(client, place.namespace)
    return place


def until_read(url: str) -> None:
    """Wait until the service has looked at its store once."""
    deadline = time.monotonic() + 30
    while "has not been read yet" in http_once.get(f"{url}/readyz").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_both_formats_lie_beside_each_other(old: Place, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    write_bundle(bundle, Recipe("beside"))
    new = Place(old.url, old.namespace + ".new")
    refused = command("gkc-export", "--version", "v", "--bundle", bundle, place=old)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert all(words in refused.stderr for words in WORDS)
    export(bundle, "v", new)
    with service(new, env=PATIENT) as url, service(old, wait=False) as old_url:
        until_read(old_url)
        for path in ("/readyz", "/versions"):
            refusal = http_once.get(f"{old_url}{path}")
            assert refusal.status_code == 503
            assert all(words in refusal.text for words in WORDS)
        assert http_once.post(f"{old_url}/knowledge", json=BODY).status_code == 503
        asked: list[int] = []
        failed: list[str] = []
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=url, timeout=30) as client:
                while not stop.is_set():
                    answer = client.post("/knowledge", json=BODY)
                    asked.append(answer.status_code)
                    if answer.status_code != 200:
                        failed.append(answer.text)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            export(bundle, "v", new)
            kept = command("gkc", "versions", "delete", "--old-format", place=old)
            assert kept.returncode == 2
            assert http_once.get(f"{old_url}/readyz").status_code == 503
            told = done("gkc", "versions", "delete", "--old-format", "--yes", place=old)
            assert "deleted 3 generations of format 1" in told
            export(bundle, "v", new)
        finally:
            stop.set()
            thread.join()
        assert failed == []
        assert len(asked) > 10
        # The other service has gone on looking, and serves what comes.
        export(bundle, "v", old)
        _wait_until_ready(old_url)
        assert http_once.post(f"{old_url}/knowledge", json=BODY).status_code == 200


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while http_once.get(f"{url}/readyz").status_code != 200:
        assert time.monotonic() < deadline, "the service does not follow its store"
        time.sleep(0.05)
