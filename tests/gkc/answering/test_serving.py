"""Following the catalogue: new generations, losses, outages, and what is served meanwhile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import structlog

from gkc.errors import CatalogueLostError, GenerationCorruptError, StoreUnavailableError
from gkc.http.app import Service
from gkc.settings import Settings
from gkc.store import Catalogue, open_publisher, open_reader
from tests.fakes import UnreliableReader
from tests.gkc.http.running import (
    QUESTION,
    answers,
    ask,
    eventually,
    is_ready,
    running,
    status,
    store_errors,
    unreliable,
)
from tests.gkc.world import World, make_world
from tests.redis_server import RedisServer


async def test_a_new_version_is_served_without_restart(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (client, _, _):
        assert await status(client, "v2") == 404
        world = make_world("v2", 1).publish(url)
        await eventually(answers(client, world), timeout_seconds=1.0)


async def test_an_unknown_version_re_reads_the_catalogue_before_it_is_404(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url, refresh_ms=3_600_000) as (client, _, reader):
        make_world("v2", 1).publish(url)
        response = await ask(client, QUESTION | {"v": "v2"})
        assert response.status_code == 503, "it is known, and not loaded yet"
        assert response.headers["retry-after"]
        assert "v2" in response.json()["detail"]
        before = reader.calls["catalogue"]
        assert await status(client, "v3") == 404
        assert reader.calls["catalogue"] == before + 1


async def test_the_old_generation_answers_until_the_new_one_is_loaded(url: str) -> None:
    old = make_world("v1", 1).publish(url)
    async with unreliable(url) as (client, _, reader):
        reader.gates["item_table"] = asyncio.Event()
        new = make_world("v1", 2).publish(url)
        await asyncio.sleep(0.1)
        assert await answers(client, old)()
        (listed,) = (await client.get("/versions")).json()["versions"]
        assert (listed["generation"], listed["previous"]) == (new.generation, old.generation)
        assert listed["ready"] is False
        reader.gates["item_table"].set()
        await eventually(answers(client, new))
        (listed,) = (await client.get("/versions")).json()["versions"]
        assert listed["ready"] is True


async def test_no_generation_answers_in_place_of_a_damaged_one(url: str) -> None:
    make_world("v1", 1).publish(url)
    async with unreliable(url) as (client, _, reader):
        reader.failures["item_table"] = GenerationCorruptError("g", "its table is cut short")
        new = make_world("v1", 2).publish(url)
        await eventually(lambda: _is_refused(client, "its table is cut short"))
        del reader.failures["item_table"]
        await eventually(answers(client, new))


async def _is_refused(client: httpx.AsyncClient, why: str) -> bool:
    response = await ask(client, QUESTION)
    return response.status_code == 503 and why in response.text


async def test_rollback_goes_back_and_forth(url: str) -> None:
    worlds = [make_world("v1", seed).publish(url) for seed in (1, 2)]
    publisher = open_publisher(url)
    async with unreliable(url) as (client, _, _):
        await eventually(answers(client, worlds[1]))
        publisher.rollback("v1")
        await eventually(answers(client, worlds[0]))
        publisher.rollback("v1")
        await eventually(answers(client, worlds[1]))
    publisher.close()


async def test_an_evicted_version_disappears(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (client, _, _):
        make_world("v2").publish(url, max_versions=1)

        async def is_gone() -> bool:
            return await status(client, "v1") == 404

        await eventually(is_gone)
        listed = (await client.get("/versions")).json()["versions"]
        assert [v["version"] for v in listed] == ["v2"]


async def test_a_generation_that_cannot_be_loaded_is_tried_again(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url, ready=False) as (client, _, reader):
        reader.failures["manifest"] = StoreUnavailableError("x", "refused")
        await eventually(lambda: _called(reader, "manifest", 1))
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert "v1; store x is not available: refused" in response.json()["detail"]
        response = await ask(client, QUESTION)
        assert response.status_code == 503
        assert "'v1' cannot be loaded: store x is not available: refused" in response.text
        del reader.failures["manifest"]
        await eventually(lambda: is_ready(client))
        assert await status(client) == 200
        assert await store_errors(client, "manifest") >= 1


async def test_whoever_waits_for_a_load_is_content_with_a_later_generation(url: str) -> None:
    make_world("v1", 1).publish(url)
    async with unreliable(url, ready=False, store_timeout_ms=60_000) as (client, service, reader):
        reader.gates["item_table"] = asyncio.Event()  # for good
        await eventually(lambda: _called(reader, "item_table", 1))
        waiting = asyncio.create_task(service.serving.wait_for_loads(["v1"]))
        await asyncio.sleep(0)
        del reader.gates["item_table"]
        new = make_world("v1", 2).publish(url)
        async with asyncio.timeout(30):
            await waiting
        assert await answers(client, new)()


async def test_a_surprising_failure_to_load_is_tried_again_too(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url, ready=False) as (client, _, reader):
        reader.failures["item_table"] = MemoryError("no memory")
        await eventually(lambda: _called(reader, "item_table", 1))
        response = await ask(client, QUESTION)
        assert response.status_code == 503
        assert "'v1' cannot be loaded: this worker's log says why" in response.text
        assert "no memory" not in response.text
        del reader.failures["item_table"]
        await eventually(lambda: is_ready(client))


@pytest.mark.redis
@pytest.mark.parametrize("command", ["get", "hmget"])
async def test_a_right_that_is_lacking_is_named_until_it_is_granted(
    own_redis: RedisServer, tmp_path: Path, command: str
) -> None:
    make_world("v1").publish(own_redis.url)
    url = own_redis.url.replace("//", "//reader:secret@")
    with redis.Redis.from_url(own_redis.url) as admin:
        rights = ("on", ">secret", "~*", "+@read", "+select", "+ping", f"-{command}")
        admin.execute_command("ACL", "SETUSER", "reader", *rights)
        mirror = tmp_path / "mirror"
        async with running(url, ready=False, refresh_ms=5, mirror_dir=mirror) as (client, _):

            async def is_named() -> bool:
                told = [await client.get("/readyz"), await ask(client, QUESTION)]
                assert [response.status_code for response in told] == [503, 503]
                assert not [response for response in told if "secret" in response.text]
                details = [response.json()["detail"] for response in told]
                return all("may not do this" in d and f"'{command}'" in d for d in details)

            await eventually(is_named)
            admin.execute_command("ACL", "SETUSER", "reader", f"+{command}")
            await eventually(lambda: is_ready(client))
            assert await status(client) == 200


async def _called(reader: UnreliableReader, operation: str, times: int) -> bool:
    return reader.calls[operation] >= times


async def test_a_store_that_went_away_is_503_and_comes_back(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (client, _, reader):
        away = StoreUnavailableError("x", "connection refused")
        reader.failures = {"fetch_users": away, "catalogue": away}
        await asyncio.sleep(0.05)
        response = await ask(client, QUESTION)
        assert response.status_code == 503
        assert response.headers["retry-after"] in ("1", "2", "3")
        assert "connection refused" in response.json()["detail"]
        assert await status(client, "v9") == 503, "nobody can say that there is no such version"
        assert await store_errors(client, "fetch_users") >= 1
        response = await client.get("/readyz")
        assert response.status_code == 200, "the other hosts of this store are no better"
        assert response.json()["status"] == "degraded"
        assert not response.json()["store"]["reachable"]
        assert 0 < response.json()["store"]["since_seconds"] < 10
        reader.failures = {}
        await eventually(lambda: _has_recovered(client))
        assert await status(client) == 200


async def _has_recovered(client: httpx.AsyncClient) -> bool:
    is_up = "gkc_store_up 1.0" in (await client.get("/metrics")).text
    return is_up and (await client.get("/readyz")).json() == {"status": "ready"}


async def test_a_store_without_versions_later_is_no_fault_of_this_host(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (client, _, reader):
        reader.catalogues = [Catalogue(revision=99)]
        await eventually(lambda: _has_status(client, 404))
        assert await is_ready(client)


@pytest.mark.redis
async def test_a_store_that_does_not_answer_in_time_is_503(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    make_world("v1").publish(own_redis.url)
    reader = open_reader(own_redis.url, mirror_dir=tmp_path / "mirror", timeout_ms=300)
    async with running(own_redis.url, reader=reader, refresh_ms=3_600_000) as (client, _):
        own_redis.signal(signal.SIGSTOP)
        try:
            response = await ask(client, QUESTION)
        finally:
            own_redis.signal(signal.SIGCONT)
        assert response.status_code == 503
        assert "300 ms" in response.json()["detail"]
        assert await store_errors(client, "fetch_users") == 1
        await eventually(lambda: _is_answered(client))


async def test_the_service_starts_without_its_store(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url, ready=False) as (client, _, reader):
        reader.failures["catalogue"] = StoreUnavailableError("x", "refused")
        assert (await client.get("/livez")).status_code == 200
        del reader.failures["catalogue"]
        await eventually(lambda: is_ready(client))


async def test_a_vanished_catalogue_is_503_until_it_is_back(url: str) -> None:
    world = make_world("v1").publish(url)
    async with unreliable(url) as (client, _, reader):
        reader.catalogues = [None]
        await eventually(lambda: _has_status(client, 503))
        assert "vanished" in (await ask(client, QUESTION)).json()["detail"]
        assert (await client.get("/versions")).status_code == 503
        told = (await client.get("/readyz")).json()
        assert told["status"] == "degraded", "no host could answer instead"
        assert told["store"]["reachable"]
        assert "vanished" in told["store"]["detail"]
        assert await store_errors(client, "catalogue") >= 1
        assert "gkc_version_info" in (await client.get("/metrics")).text
        reader.catalogues = []
        await eventually(answers(client, world))


async def _has_status(client: httpx.AsyncClient, wanted: int) -> bool:
    return await status(client) == wanted


async def test_an_unreadable_catalogue_is_503_until_it_is_back(url: str) -> None:
    world = make_world("v1").publish(url)
    async with unreliable(url) as (client, _, reader):
        reader.failures["catalogue"] = CatalogueLostError("x", "not a catalogue")
        await eventually(lambda: _has_status(client, 503))
        del reader.failures["catalogue"]
        await eventually(answers(client, world))


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"[" * 200_000,  # not even json's own error
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw.replace(b'"revision":2', b'"revision":null'),
        lambda raw: raw.replace(b'"revision":2', b'"revision":"99"'),
        lambda raw: raw.replace(b'"current":"0', b'"current":"9'),
        lambda raw: raw.replace(b'"versions":{', b'"versions":{"v2":{"current":null},'),
    ],
    ids=["nested", "half", "no revision", "a text", "an unknown generation", "no generation"],
)
async def test_a_damaged_catalogue_is_503_until_it_is_whole(
    url: str, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    old = make_world("v1", 1).publish(url)
    path = tmp_path / "store/default/catalogue.json"
    whole = path.read_bytes()
    assert damage(whole) != whole
    with structlog.testing.capture_logs() as logged:
        async with unreliable(url) as (client, _, reader):
            await eventually(answers(client, old))
            path.write_bytes(damage(whole))
            await eventually(lambda: _has_status(client, 503))
            assert (await client.get("/readyz")).json()["status"] == "degraded"
            assert (await client.get("/versions")).status_code == 503
            assert "gkc_store_up 0.0" in (await client.get("/metrics")).text
            assert await store_errors(client, "catalogue") >= 1
            before = reader.calls["catalogue"]
            await eventually(lambda: _called(reader, "catalogue", before + 20))
            path.write_bytes(whole)
            await eventually(answers(client, old))
            assert await is_ready(client)
            new = make_world("v1", 2).publish(url)
            await eventually(answers(client, new))
    lost = [entry for entry in logged if entry["event"] == "catalogue_lost"]
    assert len(lost) <= 2, "a line for each cause, not for each look"


async def test_a_store_that_was_never_read_is_not_one_without_versions(url: str) -> None:
    make_world("v1").publish(url)
    reader = UnreliableReader(open_reader(url))
    reader.failures["catalogue"] = StoreUnavailableError(url, "wrong password")
    async with running(url, reader=reader, ready=False, refresh_ms=5) as (client, _):
        await eventually(lambda: _called(reader, "catalogue", 2))
        for path in ("/versions", "/readyz"):
            response = await client.get(path)
            assert response.status_code == 503
            assert response.headers["retry-after"]
            assert "wrong password" in response.json()["detail"]
        assert await status(client) == 503
        assert (await client.get("/metrics")).status_code == 200
        del reader.failures["catalogue"]
        await eventually(lambda: is_ready(client))
        assert len((await client.get("/versions")).json()["versions"]) == 1


async def test_a_store_that_was_read_and_holds_nothing_has_no_versions(url: str) -> None:
    async with unreliable(url, ready=False) as (client, _, reader):
        await eventually(lambda: _called(reader, "catalogue", 2))
        response = await client.get("/versions")
        assert response.status_code == 200
        assert response.json()["versions"] == []
        assert (await client.get("/readyz")).status_code == 503
        assert await status(client) == 404


async def test_a_store_that_stays_away_is_told_once(url: str) -> None:
    make_world("v1").publish(url)
    with structlog.testing.capture_logs() as logged:
        async with unreliable(url) as (_, _, reader):
            for cause in ("refused", "no answer"):
                reader.failures["catalogue"] = StoreUnavailableError("x", cause)
                before = reader.calls["catalogue"]
                await eventually(lambda n=before + 20: _called(reader, "catalogue", n))  # type: ignore[misc]
            del reader.failures["catalogue"]
            before = reader.calls["catalogue"]
            await eventually(lambda: _called(reader, "catalogue", before + 2))
    told = [e["event"] for e in logged if e["event"].startswith("catalogue_")]
    assert told == ["catalogue_not_read", "catalogue_not_read", "catalogue_read_again"]


async def catalogue_of(url: str) -> Catalogue:
    reader = open_reader(url)
    found = await reader.catalogue()
    await reader.close()
    assert found is not None
    return found


async def test_an_earlier_catalogue_now_and_then_is_counted_and_not_followed(url: str) -> None:
    old = make_world("v1", 1).publish(url)
    late = await catalogue_of(url)
    new = make_world("v1", 2).publish(url)
    newest = await catalogue_of(url)
    async with unreliable(url) as (client, _, reader):
        await eventually(answers(client, new))
        reader.catalogues = [late, late, late, newest]
        await eventually(lambda: _is_left(reader, 1))
        assert await answers(client, new)()
        assert await store_errors(client, "catalogue") == 1, "once, not at every look"
        for _ in range(20):
            reader.catalogues = [late, newest]
            await eventually(lambda: _is_left(reader, 1))
        assert await answers(client, new)()
        assert not await answers(client, old)()


async def _is_left(reader: UnreliableReader, count: int) -> bool:
    return len(reader.catalogues) == count


async def test_an_earlier_catalogue_that_stays_is_followed(url: str) -> None:
    old = make_world("v1", 1).publish(url)
    backup = await catalogue_of(url)
    new = make_world("v1", 2).publish(url)
    async with unreliable(url) as (client, _, reader):
        await eventually(answers(client, new))
        reader.catalogues = [backup]
        with structlog.testing.capture_logs() as logged:
            await eventually(answers(client, old))
        assert await store_errors(client, "catalogue") >= 1
        assert [e["event"] for e in logged if e["log_level"] == "error"] == [
            "catalogue_went_back",
            "earlier_catalogue_followed",
        ]
        reader.catalogues = []
        await eventually(answers(client, new))


async def test_a_restored_store_that_is_exported_to_is_followed_at_once(
    url: str, tmp_path: Path
) -> None:
    make_world("v1", 1).publish(url)
    path = tmp_path / "store/default/catalogue.json"
    backup = path.read_bytes()
    for seed in (2, 3):
        make_world("v1", seed).publish(url)
    last = make_world("v1", 4).publish(url)
    async with unreliable(url, refresh_ms=3_600_000) as (client, service, _):
        await eventually(answers(client, last))
        path.write_bytes(backup)
        fresh = make_world("v1", 5).publish(url)
        known = service.serving.last_catalogue
        assert known is not None
        assert (await catalogue_of(url)).revision < known.revision
        await service.serving.refresh()
        await eventually(answers(client, fresh))
        assert await store_errors(client, "catalogue") == 1


async def test_a_restored_store_is_followed_after_its_loss(url: str) -> None:
    old = make_world("v1", 1).publish(url)
    reader = open_reader(url)
    backup = await reader.catalogue()
    await reader.close()
    make_world("v1", 2).publish(url)
    async with unreliable(url) as (client, _, unreliable_reader):
        unreliable_reader.catalogues = [None, backup]
        await eventually(answers(client, old))


async def test_readiness_waits_for_every_version_there_was_at_start(url: str) -> None:
    for version in ("v1", "v2"):
        make_world(version).publish(url)
    gate = asyncio.Event()
    async with unreliable(url, ready=False) as (client, _, reader):
        reader.gates["item_table"] = gate
        await eventually(lambda: _called(reader, "item_table", 2))
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert "v1, v2" in response.json()["detail"]
        gate.set()
        await eventually(lambda: is_ready(client))
        reader.gates["item_table"] = asyncio.Event()
        make_world("v3").publish(url)
        await asyncio.sleep(0.05)
        assert await is_ready(client), "what came after the start does not count"


@pytest.mark.parametrize("refresh_ms", [5, 3_600_000])
async def test_a_substitute_has_what_was_published_while_it_started(
    url: str, refresh_ms: int
) -> None:
    make_world("v1").publish(url)
    reader = UnreliableReader(open_reader(url))
    settings = Settings(store_url=url, refresh_ms=refresh_ms, store_timeout_ms=10_000)
    service = Service(settings, reader)
    first = reader.gates["item_table"] = asyncio.Event()

    async def publish() -> None:
        await eventually(lambda: _called(reader, "item_table", 1))
        second = reader.gates["item_table"] = asyncio.Event()
        make_world("v2").publish(url)
        if refresh_ms == 5:
            await eventually(lambda: _called(reader, "item_table", 2))
        first.set()
        await eventually(lambda: _called(reader, "item_table", 2))
        await asyncio.sleep(0.1)
        second.set()

    publishing = asyncio.create_task(publish())
    async with service.lifespan():
        await service.serving.wait_until_ready()
        assert service.serving.loaded.keys() == {"v1", "v2"}
    await publishing


async def test_item_tables_share_one_memory_budget(url: str) -> None:
    for version in ("v1", "v2"):
        make_world(version).publish(url)
    budgets: list[int] = []
    reader = open_reader(url)
    original = reader.item_table

    async def item_table(manifest: Any, memory_bytes: int) -> Any:
        budgets.append(memory_bytes)
        return await original(manifest, memory_bytes)

    reader.item_table = item_table  # type: ignore[method-assign]
    async with running(url, reader=reader, item_memory_mb=1):
        assert max(budgets) <= 1024 * 1024
        assert min(budgets) < 1024 * 1024, "the second table gets what the first one left"


def is_mapped(world: World) -> bool:
    return world.generation in Path("/proc/self/maps").read_text()


async def test_what_was_replaced_is_unmapped(url: str) -> None:
    old = make_world("v1", 1).publish(url)

    async def is_unmapped() -> bool:
        return not is_mapped(old)

    async with unreliable(url) as (client, _, reader):
        assert await status(client) == 200
        assert is_mapped(old)
        reader.gates["manifest"] = asyncio.Event()
        new = make_world("v1", 2).publish(url, keep_previous=0)
        await eventually(lambda: _is_refused(client, f"{old.generation} is not in the store"))
        reader.gates["manifest"].set()
        await eventually(answers(client, new))
        await eventually(is_unmapped)
        assert is_mapped(new)
    assert not is_mapped(new)


async def test_everything_is_closed_at_the_end(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url) as (_, _, reader):
        assert reader.calls["close"] == 0
    assert reader.calls["close"] == 1


async def test_catalogue_reads_are_shared(url: str) -> None:
    make_world("v1").publish(url)
    async with unreliable(url, refresh_ms=3_600_000) as (client, _, reader):
        before = reader.calls["catalogue"]
        reader.gates["catalogue"] = asyncio.Event()
        asking = [asyncio.create_task(status(client, "nowhere")) for _ in range(20)]
        await asyncio.sleep(0.05)
        reader.gates["catalogue"].set()
        assert await asyncio.gather(*asking) == [404] * 20
        assert reader.calls["catalogue"] - before <= 2


async def _is_answered(client: httpx.AsyncClient) -> bool:
    return await status(client) == 200
