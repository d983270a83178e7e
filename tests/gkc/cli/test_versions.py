"""``gkc versions``."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from gkc.cli.versions import _size
from tests.commands import Place
from tests.gkc.cli.in_process import done, gkc
from tests.gkc.http.running import session
from tests.gkc.world import make_world


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"file:{tmp_path / 'store'}", "default")


def listed(place: Place) -> dict[str, dict[str, object]]:
    body = json.loads(done("versions", "list", "--json", place=place))
    return {v["version"]: v for v in body["versions"]}


def test_list_json_is_the_body_of_get_versions(place: Place) -> None:
    for seed, version in enumerate(("a", "b")):
        make_world(version, seed).publish(place.url)
    told = done("versions", "list", "--json", place=place)
    assert done("versions", "--json", place=place) == told
    with session(place.url) as asked:
        assert asked.get("/versions").text + "\n" == told
    body = json.loads(told)
    assert body["max_versions"] == 5
    assert [v["version"] for v in body["versions"]] == ["b", "a"]
    assert set(body["versions"][0]) == {
        *("version", "generation", "previous", "published_at", "users", "items"),
        *("user_categories", "dim", "category_dim", "dtype", "bytes", "pinned", "ready", "bundle"),
        *("checksum", "id_types"),
    }


def test_list_for_people(place: Place) -> None:
    Path(place.url.removeprefix("file:")).mkdir()
    assert "no versions" in done("versions", place=place)
    make_world("20211220").publish(place.url)
    told = done("versions", place=place)
    assert told.startswith("1 of at most 5 versions\n")
    assert told.split()[6:13] == [
        "version",
        "published",
        "users",
        "items",
        "pairs",
        "size",
        "state",
    ]
    assert told.split()[-1] == "ready"
    assert max(map(len, told.splitlines())) <= 80


def test_a_store_that_is_not_there(place: Place) -> None:
    path = place.url.removeprefix("file:")
    for command in (["list"], ["show", "v1"], ["pin", "v1"], ["delete", "v1", "--yes"]):
        result = gkc("versions", *command, place=place)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert f"no store at {path};" in result.stderr
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_999, "1.0 MB"), (6_123_456_789, "6.1 GB")],
)
def test_sizes(size_bytes: int, shown: str) -> None:
    assert _size(size_bytes) == shown


def test_the_store_may_be_named_before_or_after_the_verb(place: Place, tmp_path: Path) -> None:
    make_world("v1").publish(place.url)
    nowhere = Place(f"file:{tmp_path / 'nowhere'}", "default")
    for given in (("--store", place.url, "list"), ("list", "--store", place.url)):
        assert "v1" in done("versions", *given, place=nowhere)


def test_show(place: Place) -> None:
    world = make_world("v1").publish(place.url)
    assert json.loads(done("versions", "show", "v1", "--json", place=place)) == listed(place)["v1"]
    told = done("versions", "show", "v1", place=place)
    assert world.generation in told
    assert not {"None", "True", "False"} & set(told.split())
    result = gkc("versions", "show", "v2", place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "v1" in result.stderr


def test_pin_and_unpin(place: Place) -> None:
    make_world("v1").publish(place.url)
    assert json.loads(done("versions", "pin", "v1", "--json", place=place))["pinned"]
    assert listed(place)["v1"]["pinned"] is True
    assert "pinned" in done("versions", place=place)
    assert done("versions", "unpin", "v1", place=place) == "v1 is no longer pinned\n"
    told = done("versions", "pin", "v1", place=place)
    assert told == "v1 is pinned: no export evicts it\n"
    done("versions", "unpin", "v1", place=place)
    assert listed(place)["v1"]["pinned"] is False
    assert gkc("versions", "pin", "v2", place=place).returncode == 1


def test_rollback_twice_undoes_it(place: Place) -> None:
    one = make_world("v1", 1).publish(place.url)
    result = gkc("versions", "rollback", "v1", place=place)
    assert result.returncode == 1
    assert "no previous generation" in result.stderr
    two = make_world("v1", 2).publish(place.url)
    for current, previous in ((one, two), (two, one)):
        done("versions", "rollback", "v1", place=place)
        found = listed(place)["v1"]
        assert (found["generation"], found["previous"]) == (current.generation, previous.generation)
    assert gkc("versions", "rollback", "v2", place=place).returncode == 1


def test_delete_wants_a_yes_and_waits_for_the_grace(place: Place, tmp_path: Path) -> None:
    make_world("v1", 1).publish(place.url)
    make_world("v1", 2).publish(place.url)
    generations = tmp_path / "store" / "default" / "generations"
    assert len(list(generations.iterdir())) == 2
    result = gkc("versions", "delete", "v1", place=place)
    assert result.returncode == 2
    assert "--yes" in result.stderr
    assert "v1" in listed(place)
    started = time.monotonic()
    done("versions", "delete", "v1", "--yes", "--grace-seconds", "1", place=place)
    assert time.monotonic() - started >= 1.0
    assert listed(place) == {}
    assert not list(generations.iterdir())
    assert gkc("versions", "delete", "v1", "--yes", place=place).returncode == 1


def test_delete_without_waiting_leaves_the_data_to_the_next_writer(
    place: Place, tmp_path: Path
) -> None:
    world = make_world("v1").publish(place.url)
    started = time.monotonic()
    told = done("versions", "delete", "v1", "--yes", "--no-wait", "--json", place=place)
    assert time.monotonic() - started < 9.0
    assert json.loads(told) == {"version": "v1", "generations": [world.generation], "deleted": []}
    assert listed(place) == {}
    assert (tmp_path / "store" / "default" / "generations" / world.generation).exists()


def test_a_damaged_version_is_not_ready(place: Place, tmp_path: Path) -> None:
    world = make_world("v1").publish(place.url)
    shutil.rmtree(tmp_path / "store" / "default" / "generations" / world.generation)
    assert listed(place)["v1"]["ready"] is False
    assert "damaged" in done("versions", place=place)


def test_wrong_usage(place: Place) -> None:
    assert gkc("versions", "shred", place=place).returncode == 2
    assert gkc("versions", "pin", place=place).returncode == 2
    assert gkc("nonsense", place=place).returncode == 2
