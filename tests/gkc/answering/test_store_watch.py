"""While the store is away: what is held answers as long as it may, and nobody waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog

from gkc.answering import store_watch
from gkc.answering.store_watch import StoreWatch
from gkc.errors import StoreUnavailableError
from gkc.store import open_reader
from tests.fakes import UnreliableReader
from tests.gkc.http.running import SAFETENSORS, ask, eventually, open_safetensors, running
from tests.gkc.world import World, make_world

REFUSED = StoreUnavailableError("redis://anywhere", "connection refused", "start it")


def away(seconds: float, *, store: str = "redis://anywhere", stale_seconds: float = 300) -> Any:
    """Return what is known of a store that was last read so many seconds ago."""
    watch = StoreWatch(store, stale_seconds)
    watch.note(time.monotonic() - seconds, None)
    for _ in range(2):
        watch.note(time.monotonic(), REFUSED)
        watch.note_failed_look()
    return watch


def test_an_answer_is_ordinary_for_two_seconds_and_then_as_old_as_the_catalogue() -> None:
    assert away(1.9).age(0) is None
    assert away(10).age(30) == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(
    ("allow_stale", "stale_seconds", "limit"),
    [(0, 300, "allow_stale of 0 s"), (9.5, 300, "9.5 s"), (400, 5, "GKC_STALE_SECONDS, 5 s")],
)
def test_an_older_answer_is_refused_with_the_limit_and_the_cause(
    allow_stale: float, stale_seconds: float, limit: str
) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        away(10, stale_seconds=stale_seconds).age(allow_stale)
    for words in ("read 10 s ago", limit, "connection refused; start it"):
        assert words in str(caught.value)


def test_a_store_that_answers_has_no_age_however_late_the_next_look_comes() -> None:
    watch = StoreWatch("redis://anywhere", 300)
    watch.note(time.monotonic() - 60, None)
    assert watch.age(0) is None
    watch.require_store()
    watch.require_users(1, 1)


def test_a_single_look_that_failed_lets_questions_wait_for_the_store() -> None:
    watch = StoreWatch("redis://anywhere", 300)
    watch.note(0, REFUSED)
    watch.note_failed_look()
    watch.require_store()
    watch.require_users(1, 1)
    watch.note(0, REFUSED)
    watch.note_failed_look()
    with pytest.raises(StoreUnavailableError, match="it is away: connection refused; start it"):
        watch.require_store()
    watch.note(time.monotonic(), None)
    watch.require_store()


def test_a_store_in_files_holds_all_its_users() -> None:
    away(10, store="file:/anywhere").require_users(1, 1)
    with pytest.raises(
        StoreUnavailableError, match="1 of 3 users are not held here, and the store"
    ):
        away(10).require_users(1, 3)


def test_looks_come_later_while_they_fail_and_at_random_within_a_second() -> None:
    watch = StoreWatch("redis://anywhere", 300)
    assert watch.pause(0.2) == 0.2
    for most in (0.2, 0.4, 0.6, 0.8, 1.0, 1.0):
        watch.note_failed_look()
        pauses = {watch.pause(0.2) for _ in range(20)}
        assert len(pauses) > 1
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert watch.pause(3600) <= 1


# ---- as it is answered


@asynccontextmanager
async def served(url: str) -> AsyncIterator[tuple[httpx.AsyncClient, UnreliableReader]]:
    """Run a service on a store that counts as one behind a network, which can be made to fail."""
    reader = UnreliableReader(open_reader(url))
    reader.store = "redis://anywhere"
    options: dict[str, Any] = {"user_cache_mb": 1, "refresh_ms": 5, "store_timeout_ms": 200}
    async with running(url, reader=reader, **options) as (client, _):
        yield client, reader


async def is_away(client: httpx.AsyncClient) -> bool:
    return "the store is away" in (await ask(client, question(8))).text


def question(*users: int, **options: Any) -> dict[str, Any]:
    return {"u": list(users), "i": 11, "v": "v1", **options}


async def test_what_is_held_answers_with_its_age_and_all_else_is_503_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_world("v1").publish(url)
    async with served(url) as (client, reader):
        fresh = (await ask(client, question(7))).json()
        assert "age" not in fresh
        reader.failures = {"fetch_users": REFUSED, "catalogue": REFUSED}
        await eventually(lambda: is_away(client))
        assert (await ask(client, question(7))).json() == fresh, "for two seconds nothing changes"
        reads = reader.calls["fetch_users"]
        response = await ask(client, question(7, 8, 9, allow_stale=60))
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert "2 of 3 users are not held here, and the store is away" in response.json()["detail"]
        assert (await ask(client, question(7) | {"v": "v9"})).status_code == 503
        assert reader.calls["fetch_users"] == reads, "nobody waited for the store"

        monkeypatch.setattr(store_watch, "FRESH_SECONDS", 0.0)
        response = await ask(client, question(7))
        assert response.status_code == 503
        assert "allow_stale of 0 s: connection refused; start it" in response.json()["detail"]
        old = (await ask(client, question(7, allow_stale=60))).json()
        assert 0 < old.pop("age") < 10
        assert old == fresh
        asked = question(7, allow_stale=60, layout="factored")
        _, metadata = open_safetensors(await ask(client, asked, accept=SAFETENSORS))
        assert 0 < float(metadata["age"]) < 10

        reader.failures = {}
        await eventually(lambda: answers_all(client))
        assert (await ask(client, question(7, allow_stale=60))).json() == fresh


async def answers_all(client: httpx.AsyncClient) -> bool:
    return (await ask(client, question(7, 8, 9))).status_code == 200


async def test_what_was_published_meanwhile_answers_afterwards(url: str) -> None:
    make_world("v1", 1).publish(url)
    async with served(url) as (client, reader):
        await ask(client, question(7))
        reader.failures = {"fetch_users": REFUSED, "catalogue": REFUSED, "manifest": REFUSED}
        await eventually(lambda: is_away(client))
        world = make_world("v1", 2).publish(url)
        assert (await ask(client, question(7))).json()["versions"]["v1"] != world.generation
        reader.failures = {}
        await eventually(lambda: is_served(client, world))


async def is_served(client: httpx.AsyncClient, world: World) -> bool:
    response = await ask(client, question(7))
    return bool(response.json().get("versions") == {"v1": world.generation})


async def test_those_who_ask_for_one_look_are_all_told_that_it_failed(url: str) -> None:
    make_world("v1").publish(url)
    async with served(url) as (client, reader):
        reader.failures["catalogue"] = REFUSED
        gate = reader.gates["catalogue"] = asyncio.Event()
        asked = [asyncio.create_task(ask(client, question(7) | {"v": "v9"})) for _ in range(4)]
        await asyncio.sleep(0.05)
        gate.set()
        assert {response.status_code for response in await asyncio.gather(*asked)} == {503}


async def test_that_it_is_away_and_back_is_logged_once(url: str) -> None:
    make_world("v1").publish(url)
    with structlog.testing.capture_logs() as logged:
        async with served(url) as (client, reader):
            reader.failures["catalogue"] = REFUSED
            await eventually(lambda: is_away(client))
            del reader.failures["catalogue"]
            await eventually(lambda: answers_all(client))
    told = [e["event"] for e in logged if e["event"].startswith("catalogue_")]
    assert told == ["catalogue_not_read", "catalogue_read_again"]
