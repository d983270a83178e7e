"""``gkc get``: the same bits as over HTTP, and words for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gkc.store import ELEMENT_TYPES, ElementType
from tests.commands import Place
from tests.gkc.cli.in_process import done, gkc
from tests.gkc.http.running import session
from tests.gkc.world import CATEGORIES, ITEMS, STRANGERS, STRINGS, USERS, make_world, named
from tests.redis_server import RedisServer

QUESTIONS: list[tuple[int, int, int | None]] = [
    (USERS[0], ITEMS[0], None),
    (USERS[1], ITEMS[3], CATEGORIES[3]),
    (USERS[3], ITEMS[4], 77),
    (-(2**63), ITEMS[-1], None),
    (STRANGERS[1], STRANGERS[0], None),
]


@pytest.fixture(params=["file", pytest.param("redis", marks=pytest.mark.redis)])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    if request.param == "redis":
        url = request.getfixturevalue("redis_server_url")
        return Place(url, request.getfixturevalue("redis_namespace"))
    return Place(f"file:{tmp_path_factory.mktemp('store')}", "center")


@pytest.mark.parametrize(
    ("element_type", "strings"),
    [*((element_type, ()) for element_type in ELEMENT_TYPES), *(("f16", s) for s in STRINGS)],
)
def test_the_same_bits_as_over_http(
    place: Place, element_type: ElementType, strings: Sequence[str]
) -> None:
    world = make_world("v1", 3, element_type, defaults=True, strings=strings)
    world = world.publish(place.url, place.namespace)
    with session(place.url, namespace=place.namespace) as asked:
        for numbers in QUESTIONS:
            user, item = named("user", numbers[0], strings), named("item", numbers[1], strings)
            category = numbers[2] and named("category", numbers[2], strings)
            given = () if category is None else ("--category", category)
            told = done(
                *("get", "--user", user, "--item", item, *given),
                *("--version", "v1", "--json"),
                place=place,
            )
            body = {"u": user, "i": item, "c": category, "v": "v1"}
            assert told == asked.post(body).text + "\n"
            row = np.array(json.loads(told)["knowledge"][0], dtype=np.float64).astype(np.float32)
            expected, status = world.row(user, item, category)
            assert row.tobytes() == np.array(expected, dtype=np.float32).tobytes()
            assert json.loads(told)["status"] == [status]


def test_words_for_people(tmp_path: object) -> None:
    place = Place(f"file:{tmp_path}", "default")
    world = make_world(defaults=True).publish(place.url)
    told = done("get", "--user", -3, "--item", 8, "--version", "v1", place=place)
    assert world.generation in told
    assert "found" in told
    assert "default vector" in told
    assert "0:4" in told
    assert "user -3, item 8, the item's own category" in told
    without = make_world("v2").publish(place.url)
    told = done("get", "--user", 8, "--item", 8, "--version", without.version, place=place)
    assert told.count("absent: zeros") == 4
    ask = ("get", "--user", 8, "--item", 8, "--category", 5, "--version", without.version)
    assert "user 8, item 8, category 5" in done(*ask, place=place)
    told = done("get", "--user", "007", "--item", "+8", "--version", without.version, place=place)
    assert "user 7, item 8, the item's own" in told, "the ids that were read"


def test_names_that_a_terminal_would_take_for_its_own(tmp_path: object) -> None:
    place = Place(f"file:{tmp_path}", "default")
    make_world(strings=("user", "item", "category")).publish(place.url)
    ask = ("get", "--user", "[bold]x[/bold]", "--item", "[/a]", "--category", "\x1b[0m")
    told = done(*ask, "--version", "v1", place=place)
    assert r"user [bold]x[/bold], item [/a], category '\x1b[0m'" in told


@pytest.mark.parametrize(
    ("strings", "option", "told"),
    [
        ((), "--user", "'x' is no whole number"),
        ((), "--category", "'x' is no whole number"),
        ((), "--user", f"'{'9' * 41}' is no whole number"),
        (("item",), "--item", "'' is a string of 0 bytes, not 1 to 128 of UTF-8"),
        (("item",), "--item", f"'{'é' * 100}' is a string of 200 bytes, not 1 to 128 of UTF-8"),
        (("user",), "--user", "'\udcff' is a string of bytes that are not UTF-8"),
    ],
)
def test_an_id_that_is_none_of_the_version(
    tmp_path: object, strings: Sequence[str], option: str, told: str
) -> None:
    place = Place(f"file:{tmp_path}", "default")
    make_world(strings=strings).publish(place.url)
    typed = told[1 : told.index("'", 1)]
    given = {"--user": 7, "--item": 11, "--category": 3, option: typed}
    ask = [text for pair in given.items() for text in pair]
    result = gkc("get", *ask, "--version", "v1", place=place)
    assert result.returncode == 2
    assert option in result.stderr


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    place = Place(f"file:{tmp_path / 'nowhere'}", "default")
    result = gkc("get", "--user", 7, "--item", 1, "--version", "v1", place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"no store at {tmp_path / 'nowhere'};" in result.stderr


def test_what_cannot_be_answered(tmp_path: object) -> None:
    place = Place(f"file:{tmp_path}", "default")
    ask = ("get", "--user", 7, "--item", 11, "--version")
    result = gkc(*ask, "v1", place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    make_world().publish(place.url)
    result = gkc(*ask, "v2", place=place)
    assert result.returncode == 1
    assert result.stderr == "gkc: version 'v2' is not in the store; versions there: v1\n"
    assert gkc("get", "--user", "x", "--item", 1, "--version", "v1", place=place).returncode == 2
    assert gkc("get", "--user", 2**63, "--item", 1, "--version", "v1", place=place).returncode == 2
    assert gkc("get", "--item", 1, "--version", "v1", place=place).returncode == 2


@pytest.mark.redis
def test_a_store_that_is_away(own_redis: RedisServer) -> None:
    own_redis.stop()
    place = Place(own_redis.url, "default")
    result = gkc("get", "--user", 7, "--item", 1, "--version", "v1", place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "not available" in result.stderr
