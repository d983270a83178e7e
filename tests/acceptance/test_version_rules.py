"""The rules of versions and generations, through the commands, on both stores."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import raw
from tests.acceptance.bundles import Recipe, write_bundle
from tests.commands import Place, http_once, service, start
from tests.in_process import command, done, export


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle", Recipe("rules", users=2000))
    return tmp_path / "bundle"


def _listed(place: Place) -> list[dict[str, Any]]:
    versions = json.loads(done("gkc", "versions", "list", "--json", place=place))["versions"]
    assert isinstance(versions, list)
    return versions


def _names(place: Place) -> list[str]:
    return [v["version"] for v in _listed(place)]


def _generations(place: Place) -> dict[str, tuple[str, str | None]]:
    return {v["version"]: (v["generation"], v["previous"]) for v in _listed(place)}


def test_six_exports_leave_five_and_the_memory_comes_back(bundle: Path, place: Place) -> None:
    evicted = []
    sizes = []
    for day in range(1, 7):
        evicted += export(bundle, f"day-{day}", place)["evicted"]
        sizes.append(raw.size_bytes(place))
    assert evicted == ["day-1"]
    assert _names(place) == ["day-6", "day-5", "day-4", "day-3", "day-2"]
    current = {g for g, _ in _generations(place).values()}
    assert raw.generations(place) == current, "no key or file of an evicted generation is left"
    assert sizes[5] < sizes[4] * 1.02, "the sixth takes the place of the first"


def test_pins_decide_what_is_evicted(bundle: Path, place: Place) -> None:
    for name in ("a", "b", "c"):
        export(bundle, name, place, "--max-versions", 3)
    done("gkc", "versions", "pin", "a", place=place)
    assert export(bundle, "d", place, "--max-versions", 3)["evicted"] == ["b"]
    done("gkc", "versions", "unpin", "a", place=place)
    assert export(bundle, "e", place, "--max-versions", 3)["evicted"] == ["a"]


def test_a_full_house_of_pins_is_refused_before_a_model_runs(bundle: Path, place: Place) -> None:
    for name in ("a", "b"):
        export(bundle, name, place, "--max-versions", 2, "--pin")
    before = raw.names(place)
    refused = command(
        *("gkc-export", "--version", "c", "--bundle", bundle, "--max-versions", 2), place=place
    )
    assert refused.returncode == 1
    assert "pinned" in refused.stderr
    assert '"phase"' not in refused.stderr, "no phase of writing began"
    assert sorted(raw.names(place)) == sorted(before)
    again = export(bundle, "b", place, "--max-versions", 2)
    assert again["evicted"] == [], "a re-export needs no room"
    assert [v["pinned"] for v in _listed(place)] == [True, True], "and keeps its pin"


def test_rollback_twice_undoes_it_and_needs_a_previous(bundle: Path, place: Place) -> None:
    first = export(bundle, "v", place)["generation"]
    lonely = command("gkc", "versions", "rollback", "v", place=place)
    assert lonely.returncode == 1
    assert "previous" in lonely.stderr
    second = export(bundle, "v", place)["generation"]
    assert second > first
    assert _generations(place) == {"v": (second, first)}
    done("gkc", "versions", "rollback", "v", place=place)
    assert _generations(place) == {"v": (first, second)}
    done("gkc", "verify", "--version", "v", place=place)
    done("gkc", "versions", "rollback", "v", place=place)
    assert _generations(place) == {"v": (second, first)}


def test_only_one_previous_is_kept_and_none_if_asked(bundle: Path, place: Place) -> None:
    ids = [export(bundle, "v", place)["generation"] for _ in range(3)]
    assert _generations(place) == {"v": (ids[2], ids[1])}
    assert raw.generations(place) == {ids[2], ids[1]}
    last = export(bundle, "v", place, "--keep-previous", 0)["generation"]
    assert _generations(place) == {"v": (last, None)}
    assert raw.generations(place) == {last}


def test_delete_takes_all_of_a_version(bundle: Path, place: Place) -> None:
    export(bundle, "gone", place)
    export(bundle, "gone", place)
    stays = export(bundle, "stays", place)["generation"]
    assert command("gkc", "versions", "delete", "gone", place=place).returncode == 2
    assert _names(place) == ["stays", "gone"]
    done("gkc", "versions", "delete", "gone", "--yes", "--grace-seconds", 0, place=place)
    assert _names(place) == ["stays"]
    assert raw.generations(place) == {stays}


def test_no_wait_leaves_deletion_to_the_next_writer(bundle: Path, place: Place) -> None:
    first = export(bundle, "v", place, "--keep-previous", 0)["generation"]
    second = export(bundle, "v", place, "--keep-previous", 0, "--no-wait")["generation"]
    assert raw.generations(place) >= {second}
    third = export(bundle, "v", place, "--keep-previous", 0)["generation"]
    assert raw.generations(place) == {third}
    assert first < second < third


def test_a_second_writer_of_a_version_is_refused_at_once_another_version_is_not(
    tmp_path: Path, place: Place
) -> None:
    write_bundle(tmp_path / "large", Recipe("large", users=60_000))
    write_bundle(tmp_path / "small", Recipe("small"))
    writer = start("gkc-export", "--version", "v", "--bundle", tmp_path / "large", place=place)
    try:
        _wait_for_staging(place)
        writer.send_signal(signal.SIGSTOP)  # alive, and not done before we looked
        busy = command("gkc-export", "--version", "v", "--bundle", tmp_path / "small", place=place)
        assert busy.returncode == 1
        assert "being written" in busy.stderr
        assert str(writer.pid) in busy.stderr, "it names who writes"
        export(tmp_path / "small", "other", place)
    finally:
        writer.send_signal(signal.SIGCONT)
    assert writer.wait(timeout=120) == 0
    assert sorted(_names(place)) == ["other", "v"]


def _wait_for_staging(place: Place) -> None:
    deadline = time.monotonic() + 60
    while not raw.generations(place):
        assert time.monotonic() < deadline, "the writer never began"
        time.sleep(0.02)


def test_an_unknown_version_is_a_404_that_lists_what_there_is(bundle: Path, place: Place) -> None:
    export(bundle, "b", place)
    export(bundle, "a", place)
    with service(place) as url:
        answer = http_once.post(f"{url}/knowledge", json={"u": 1, "i": 1, "v": "nope"})
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert "nope" in answer.json()["detail"]
        assert "a, b" in answer.json()["detail"]
        export(bundle, "new", place)
        _ask_until_served(url, "new")
    missing = command("gkc", "get", "--user", 1, "--item", 1, "--version", "nope", place=place)
    assert missing.returncode == 1
    assert "a, b" in missing.stderr.replace("b, a", "a, b")


def _ask_until_served(url: str, version: str) -> None:
    """Ask until a version answers 200: within a second, and longer on a machine that is busy."""
    deadline = time.monotonic() + 30
    while True:
        answer = http_once.post(f"{url}/knowledge", json={"u": 1, "i": 1, "v": version})
        if answer.status_code == 200:
            return
        assert answer.status_code in (404, 503), answer.text
        assert time.monotonic() < deadline, f"{version} is not served"
        time.sleep(0.02)


def test_a_lost_bucket_is_a_503_and_no_zeros(bundle: Path, place: Place) -> None:
    generation = export(bundle, "v", place)["generation"]
    with service(place) as url:
        asked = {"u": 1, "i": [1, 2], "v": "v"}
        assert http_once.post(f"{url}/knowledge", json=asked).status_code == 200
        if place.url.startswith("file:"):
            return  # its files stay valid for whoever has mapped them: that is by design
        raw.lose_users(place, generation)
        not_held = asked | {"u": 2}  # the record of the other one is kept, and cannot be wrong
        answer = http_once.post(f"{url}/knowledge", json=not_held)
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert 'gkc_store_errors_total{operation="' in http_once.get(f"{url}/metrics").text
    assert command("gkc", "verify", "--version", "v", place=place).returncode == 1


def test_a_lost_file_is_no_answer_at_all(bundle: Path, tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path / 'store'}", "default")
    generation = export(bundle, "v", place)["generation"]
    raw.lose_users(place, generation)
    got = command("gkc", "get", "--user", 1, "--item", 1, "--version", "v", place=place)
    assert got.returncode == 1
    assert "damaged" in got.stderr
    with service(place, wait=False) as url:
        assert http_once.get(f"{url}/readyz").status_code == 503
        answer = http_once.post(f"{url}/knowledge", json={"u": 1, "i": 1, "v": "v"})
        assert answer.status_code == 503
