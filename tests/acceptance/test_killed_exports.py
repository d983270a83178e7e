"""The exporter is killed in every phase: what served before still serves, and no trace stays."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance import raw
from tests.acceptance.bundles import Recipe, write_bundle
from tests.commands import PATIENT, Place, service, start
from tests.in_process import command, done, export

PHASES = ("write", "verify", "publish", "evict")
KILLS = 5
LONGEST_PHASE_SECONDS = {"write": 0.5, "verify": 0.05, "publish": 0.01, "evict": 0.8}
"""Kills are spread over this long from the phase's first line in the log."""


@pytest.mark.parametrize("phase", PHASES)
def test_killed_in(phase: str, place: Place, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", Recipe("killed", users=4000))
    bundle = tmp_path / "bundle"
    before = export(bundle, "v", place, "--keep-previous", 0)["generation"]
    rng = random.Random(phase)
    reached = 0
    with service(place, env=PATIENT) as url, httpx.Client(base_url=url, timeout=30) as client:
        for _ in range(KILLS):
            delay = rng.uniform(0, LONGEST_PHASE_SECONDS[phase])
            reached += _kill_in(phase, delay, bundle, place)
            current = _still_served(client, before, place)
            before = _resumed_or_swept(bundle, place)
            _wait_until_served(client, before, meanwhile=current)
    assert reached == KILLS, f"each run logged its phase {phase} before it died"


def _kill_in(phase: str, delay: float, bundle: Path, place: Place) -> bool:
    """Export, and SIGKILL it ``delay`` seconds into a phase; tell whether it got there."""
    process = start(
        *("gkc-export", "--version", "v", "--bundle", bundle, "--keep-previous", 0),
        *("--grace-seconds", 1),
        place=place,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    reached = False
    for line in process.stderr:
        if f'"phase": "{phase}"' in line or f'"phase":"{phase}"' in line:
            reached = True
            time.sleep(delay)
            break
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stderr.close()
    return reached


def _still_served(client: httpx.Client, before: str, place: Place) -> str:
    """The old generation answers, or the new one if publication was reached; nothing fails."""
    served = json.loads(done("gkc", "versions", "list", "--json", place=place))["versions"]
    (current,) = (str(v["generation"]) for v in served)
    _wait_until_served(client, current, meanwhile=before)
    done("gkc", "verify", "--version", "v", place=place)
    return current


def _resumed_or_swept(bundle: Path, place: Place) -> str:
    """The next run works at once, and leaves no key or file but those of what it serves."""
    generation = str(export(bundle, "v", place, "--keep-previous", 0)["generation"])
    assert raw.generations(place) == {generation}
    return generation


def _wait_until_served(client: httpx.Client, generation: str, *, meanwhile: str) -> None:
    deadline = time.monotonic() + 30
    while (answered := _ask(client)["versions"]["v"]) != generation:
        assert answered == meanwhile, "a generation that was never current"
        assert time.monotonic() < deadline, "the published generation is not served"
        time.sleep(0.02)


def _ask(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/knowledge", json={"u": [1, 2], "i": 3, "v": "v"})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert all(1 in row for row in body["status"]), "known ids stay known"
    return body


def test_a_killed_export_is_resumed(place: Place, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", Recipe("resumed", users=60_000))
    bundle = tmp_path / "bundle"
    writer = start("gkc-export", "--version", "v", "--bundle", bundle, place=place)
    staged = _wait_for_data(place)
    writer.send_signal(signal.SIGKILL)
    writer.wait(timeout=30)
    assert json.loads(done("gkc", "versions", "list", "--json", place=place))["versions"] == []
    generation = export(bundle, "v", place, "--keep-previous", 0, "--resume")["generation"]
    assert generation == staged, "it went on with what the dead run had written"
    done("gkc", "verify", "--version", "v", place=place)
    done("gkc-export", "--check", "--version", "v", "--bundle", bundle, place=place)
    assert raw.generations(place) == {generation}


def _wait_for_data(place: Place) -> str:
    """Wait until the first data of a generation is stored; return its id."""
    deadline = time.monotonic() + 60
    while not (found := raw.generations(place)):
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.005)
    (generation,) = found
    return generation


def test_a_writer_that_wakes_up_after_it_was_taken_for_dead_publishes_nothing(
    tmp_path: Path, redis_server_url: str, redis_namespace: str
) -> None:
    # On a file store the kernel holds the lock of a paused writer: it is never taken for dead.
    place = Place(redis_server_url, redis_namespace)
    write_bundle(tmp_path / "large", Recipe("large", users=60_000))
    write_bundle(tmp_path / "small", Recipe("small"))
    sleeper = start("gkc-export", "--version", "v", "--bundle", tmp_path / "large", place=place)
    _wait_for_data(place)
    sleeper.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while True:
        taken = command(
            *("gkc-export", "--version", "v", "--bundle", tmp_path / "small"),
            *("--json", "--grace-seconds", 0),
            place=place,
        )
        if taken.returncode == 0:
            break
        assert "being written" in taken.stderr
        assert time.monotonic() < deadline, "the lease never ran out"
        time.sleep(0.5)
    generation = json.loads(taken.stdout)["generation"]
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(timeout=60) == 1
    served = json.loads(done("gkc", "versions", "list", "--json", place=place))["versions"]
    assert [v["generation"] for v in served] == [generation]
    done("gkc", "verify", "--version", "v", place=place)
    last = export(tmp_path / "small", "v", place, "--keep-previous", 0)["generation"]
    assert raw.generations(place) == {last}, "what it wrote after waking is gone, too"
