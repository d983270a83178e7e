"""Stores answered in the caller's process: a service's very bits and errors, and nothing of one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from gkc import AsyncClient, Client
from gkc.client.knowledge import Knowledge
from gkc.client.local import LocalSource
from gkc.errors import (
    CatalogueLostError,
    ClientUsageError,
    DeadlineExceededError,
    GenerationCorruptError,
    GkcError,
    InvalidFieldsError,
    StoreUnavailableError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from tests.commands import Place, service
from tests.gkc.client.clients import Open
from tests.gkc.client.local_calls import (
    ONE,
    SECONDS,
    answered,
    ask,
    async_local_source,
    deadline,
    eventually,
    local_source,
    mapped,
    opened,
    question,
    row_bytes,
)
from tests.gkc.http.running import SAFETENSORS, Told, open_safetensors
from tests.gkc.world import (
    CATEGORIES,
    ITEMS,
    PARTS,
    STRANGERS,
    STRINGS,
    USERS,
    Worlds,
    make_world,
    named,
    versions_of,
)
from tests.redis_server import RedisServer

EQUALLY_WIDE = ("half", "half-defaults", "full", "full-defaults", "int8", "int8-defaults")


# ---- the same as a service


@dataclass(frozen=True)
class Published:
    """Worlds in a store, a real service of it, and how to open it here."""

    worlds: Worlds
    service: str
    options: dict[str, Any]


@pytest.fixture(scope="module", params=["file", pytest.param("redis", marks=pytest.mark.redis)])
def published(
    request: pytest.FixtureRequest, worlds: Worlds, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    if request.param == "file":
        with service(Place(worlds.url, "default")) as base:
            yield Published(worlds, base, {})
        return
    url, namespace = request.getfixturevalue("redis_server_url"), f"test-{uuid.uuid4().hex}"
    of_strings = [versions for strings in STRINGS for versions in versions_of(strings)]
    names = (*EQUALLY_WIDE, "wide", "large", *of_strings)
    most = len(names)
    held = Worlds(url, [worlds[v].publish(url, namespace, max_versions=most) for v in names])
    mirrors = tmp_path_factory.mktemp("mirrors")
    with service(Place(url, namespace), env={"GKC_MIRROR_DIR": str(mirrors)}) as base:
        yield Published(held, base, {"namespace": namespace, "mirror_dir": mirrors})
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"*{namespace}*", count=1000):
            client.unlink(key)


@pytest.fixture(scope="module")
def source(published: Published) -> Iterator[LocalSource]:
    with opened(published.worlds.url, **published.options) as made:
        yield made


def bodies(count: int) -> Iterator[dict[str, Any]]:
    """Draw questions of known and unknown ids: scalars and lists, one version or several.

    In every other one, some kinds of ids are strings.
    """
    rng = np.random.default_rng(12)

    def one_of(values: tuple[Any, ...], n: int) -> Any:
        drawn = [values[k] for k in rng.integers(0, len(values), n)]
        return drawn if rng.random() < 0.6 else drawn[0] if n else values[0]

    for k in range(count):
        strings = STRINGS[k // 2 % len(STRINGS)] if k % 2 else ()
        users, items, categories = (
            tuple(named(kind, id_, strings) for id_ in (*ids, *STRANGERS))
            for kind, ids in (("user", USERS), ("item", ITEMS), ("category", CATEGORIES))
        )
        n = int(rng.integers(0, 30))
        parts = [part for part in PARTS if rng.random() < 0.6] or list(PARTS)
        drawn = [items[k] for k in rng.integers(0, len(items), n)]
        yield {
            "u": one_of(users, n),
            "i": drawn,
            "c": one_of((*categories, None, None), n),
            "v": one_of(versions_of(strings) if strings else EQUALLY_WIDE, n),
            "parts": parts if rng.random() < 0.5 else list(PARTS),
            "dtype": "f16" if rng.random() < 0.5 else "f32",
        }


def from_service(base: str, body: Mapping[str, Any]) -> httpx.Response:
    return httpx.post(f"{base}/knowledge", json=dict(body), headers={"accept": SAFETENSORS})


def assert_same(knowledge: Knowledge, response: httpx.Response) -> None:
    tensors, _ = open_safetensors(response)
    told = Told(versions={}, parts={}, knowledge=tensors["knowledge"], status=[])
    assert knowledge.rows.dtype == told.knowledge.dtype
    assert knowledge.rows.shape == told.knowledge.shape
    assert knowledge.rows.tobytes() == told.knowledge.tobytes()
    assert knowledge.status.tobytes() == tensors["status"].tobytes()


def test_bits_are_a_services(published: Published, source: LocalSource) -> None:
    seen = set()
    for body in bodies(80):
        knowledge = ask(source, body)
        response = from_service(published.service, body)
        assert_same(knowledge, response)
        metadata = open_safetensors(response)[1]
        assert metadata["versions"] == httpx.Response(200, json=dict(knowledge.versions)).text
        seen |= set(knowledge.status.ravel().tolist())
    assert seen == {0, 1, 2}


async def test_bits_are_a_services_on_the_callers_loop(published: Published) -> None:
    source = async_local_source(published.worlds.url, **published.options)
    asked = list(bodies(30))
    answers = await asyncio.gather(
        *(source.knowledge(question(body), deadline(SECONDS)) for body in asked)
    )
    await source.close()
    for body, knowledge in zip(asked, answers, strict=True):
        assert_same(knowledge, from_service(published.service, body))


def test_the_list_of_versions_is_a_services(published: Published, source: LocalSource) -> None:
    ask(source, {"u": 7, "i": 11, "v": "half"})
    eventually(lambda: all(v["ready"] for v in source.versions(deadline(SECONDS))["versions"]))
    listed = httpx.get(f"{published.service}/versions").json()
    assert source.versions(deadline(SECONDS)) == listed
    beside = asyncio.run(_listed(published))
    assert [v | {"ready": True} for v in beside["versions"]] == listed["versions"]


async def _listed(published: Published) -> dict[str, Any]:
    beside = async_local_source(published.worlds.url, **published.options)
    try:
        return await beside.versions(deadline(SECONDS))
    finally:
        await beside.close()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"u": 7, "i": 11, "v": "none"}, VersionNotFoundError),
        ({"u": 7, "i": [11, 12], "v": ["half", "wide"]}, InvalidFieldsError),
        ({"u": 7, "i": 11, "v": "large", "dtype": "f16"}, InvalidFieldsError),
    ],
)
async def test_errors_are_a_services(
    published: Published, source: LocalSource, body: dict[str, Any], kind: type[GkcError]
) -> None:
    told = from_service(published.service, body).json()
    with pytest.raises(kind) as caught:
        ask(source, body)
    assert caught.value.detail == told["detail"]
    fields = [{"field": e.field, "detail": e.detail} for e in caught.value.errors]
    assert fields == told.get("errors", [])
    beside = async_local_source(published.worlds.url, **published.options)
    with pytest.raises(kind) as caught:
        await beside.knowledge(question(body), deadline(SECONDS))
    await beside.close()
    assert caught.value.detail == told["detail"]


# ---- what is published, and what is lost, while it is open


def test_a_new_generation_answers_soon_and_an_evicted_version_no_more(url: str) -> None:
    first = make_world("v1", 1).publish(url)
    with opened(url) as source:
        assert answered(source, first)()
        second = make_world("v1", 2).publish(url)
        eventually(answered(source, second))
        make_world("v2", 3).publish(url, max_versions=1)

        def is_gone() -> bool:
            try:
                return not ask(source, ONE)
            except VersionNotFoundError as exc:
                return exc.known == ("v2",)

        eventually(is_gone)


@pytest.mark.redis
def test_a_deleted_generation_is_answered_from_the_current_one(
    redis_store: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GKC_REFRESH_MS", "3600000")
    url, options = redis_store
    make_world("v1", 1).publish(url)
    with opened(url, **options) as source:
        ask(source, ONE)
        new = make_world("v1", 2).publish(url, keep_previous=0)
        assert answered(source, new)()


def test_what_is_not_loaded_by_the_deadline_is_told_with_its_cause(url: str) -> None:
    world = make_world("v1").publish(url)
    folder = Path(url.removeprefix("file:")) / "default" / "generations" / world.generation
    (folder / "items.gkt").rename(folder / "away")
    with opened(url) as source:
        with pytest.raises(VersionNotReadyError, match=r"cannot be loaded: .*items\.gkt"):
            ask(source, ONE, seconds=0.3)
        (folder / "away").rename(folder / "items.gkt")
        assert answered(source, world)()


def test_damage_is_told(url: str) -> None:
    world = make_world("v1").publish(url)
    users = Path(url.removeprefix("file:")) / "default" / "generations" / world.generation
    with opened(url) as source:
        ask(source, ONE)
        os.truncate(users / "users.gkt", 4096)
        with pytest.raises(GenerationCorruptError, match=r"users\.gkt has 4096 bytes"):
            ask(source, ONE)


def test_a_catalogue_that_vanishes_and_returns(url: str) -> None:
    make_world("v1").publish(url)
    catalogue = Path(url.removeprefix("file:")) / "default" / "catalogue.json"
    with opened(url) as source:
        ask(source, ONE)
        catalogue.rename(catalogue.with_name("away"))

        def is_lost() -> bool:
            try:
                return not ask(source, ONE)
            except CatalogueLostError:
                return True

        eventually(is_lost)
        catalogue.with_name("away").rename(catalogue)
        assert len(ask(source, ONE)) == 2


def test_a_store_that_is_not_there_is_no_empty_one(url: str) -> None:
    with opened(url) as source:
        for call in (lambda: ask(source, ONE), lambda: source.versions(deadline(SECONDS))):
            with pytest.raises(StoreUnavailableError, match="no such directory"):
                call()
        world = make_world("v1").publish(url)
        assert answered(source, world)()


@pytest.mark.redis
def test_a_store_that_is_away_is_told_and_asked_again(
    own_redis: RedisServer, redis_store: tuple[str, dict[str, Any]]
) -> None:
    url, options = redis_store
    make_world("v1").publish(url)
    with opened(url, **options) as source:
        ask(source, ONE)
        own_redis.stop()
        with pytest.raises(StoreUnavailableError, match=r"refused|closed"):
            ask(source, ONE)
        own_redis.start()  # empty
        make_world("v1").publish(url)
        eventually(lambda: _is_answered(source))


def _is_answered(source: LocalSource) -> bool:
    try:
        return len(ask(source, ONE)) == 2
    except GkcError:
        return False


@pytest.mark.redis
async def test_a_store_that_hangs_is_given_up_at_the_deadline(
    own_redis: RedisServer, redis_store: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GKC_STORE_TIMEOUT_MS", "60000")
    url, options = redis_store
    make_world("v1").publish(url)
    beside = async_local_source(url, timeout=0.1, **options)
    with opened(url, timeout=0.1, **options) as source:
        ask(source, ONE)
        await beside.knowledge(question(ONE), deadline(SECONDS))
        own_redis.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(DeadlineExceededError, match=r"within 0\.1 s"):
                ask(source, ONE, seconds=0.09)
            with pytest.raises(DeadlineExceededError, match=r"within 0\.1 s"):
                await beside.knowledge(question(ONE), deadline(-0.1))
            assert time.monotonic() - began < 20
        finally:
            own_redis.signal(signal.SIGCONT)
        assert len(ask(source, ONE)) == 2
        assert len(await beside.knowledge(question(ONE), deadline(SECONDS))) == 2
    await beside.close()


@pytest.mark.redis
def test_a_store_that_is_silent_for_too_long_is_told_of_before_the_deadline(
    own_redis: RedisServer, redis_store: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GKC_STORE_TIMEOUT_MS", "100")
    url, options = redis_store
    make_world("v1").publish(url)
    with opened(url, **options) as source:
        ask(source, ONE)
        own_redis.signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailableError, match="no answer within 100 ms"):
                ask(source, ONE)
        finally:
            own_redis.signal(signal.SIGCONT)


# ---- rows, closing, threads


def test_rows_are_read_only_and_outlive_the_store(url: str) -> None:
    world = make_world("v1").publish(url)
    with opened(url) as source:
        knowledge = ask(source, ONE)
    shutil.rmtree(url.removeprefix("file:"))
    assert knowledge.rows.tobytes() == row_bytes(world, 7, [11, 12])
    assert not knowledge.rows.flags.writeable
    assert not knowledge.status.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        knowledge.rows[0, 0] = 1


def test_logits_are_made_of_what_the_bundle_tells(worlds: Worlds) -> None:
    with opened(worlds.url) as source, pytest.raises(ClientUsageError, match="`tasks`"):
        _ = ask(source, {"u": 7, "i": 11, "v": "half"}).logits


def test_after_close_there_are_no_answers_nor_tables_nor_threads(url: str) -> None:
    make_world("v1").publish(url)
    source = local_source(url)
    ask(source, ONE)
    assert mapped(url)
    threads = threading.active_count()
    source.close()
    source.close()
    assert not mapped(url)
    assert threading.active_count() < threads
    with pytest.raises(ClientUsageError, match="closed"):
        ask(source, ONE)
    with pytest.raises(ClientUsageError, match="closed"):
        source.versions(deadline(SECONDS))


async def test_after_close_there_are_no_answers_on_the_loop_either(url: str) -> None:
    make_world("v1").publish(url)
    source = async_local_source(url)
    await source.knowledge(question(ONE), deadline(SECONDS))
    await source.close()
    await source.close()
    assert not mapped(url)
    with pytest.raises(ClientUsageError, match="closed"):
        await source.knowledge(question(ONE), deadline(SECONDS))


def test_one_loop_has_it_for_good(worlds: Worlds) -> None:
    source = async_local_source(worlds.url)
    asked = question({"u": 7, "i": 11, "v": "half"})

    async def answer() -> int:
        return len(await source.knowledge(asked, deadline(SECONDS)))

    assert asyncio.run(answer()) == 1
    with pytest.raises(ClientUsageError, match="another event loop"):
        asyncio.run(answer())


def test_a_source_that_nobody_has_any_more_is_closed(url: str) -> None:
    make_world("v1").publish(url)
    source = local_source(url)
    ask(source, ONE)
    del source
    eventually(lambda: not mapped(url))


@pytest.mark.redis
async def test_close_waits_for_calls_that_are_under_way(
    own_redis: RedisServer, redis_store: tuple[str, dict[str, Any]]
) -> None:
    url, options = redis_store
    make_world("v1").publish(url)
    source, beside = local_source(url, **options), async_local_source(url, **options)
    ask(source, ONE)
    await beside.knowledge(question(ONE), deadline(SECONDS))
    own_redis.signal(signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(ask, source, ONE)
        task = asyncio.create_task(beside.knowledge(question(ONE), deadline(SECONDS)))
        await asyncio.sleep(0.1)
        closing = pool.submit(source.close)
        closing_beside = asyncio.create_task(beside.close())
        await asyncio.sleep(0.1)
        assert not closing.done()
        assert not closing_beside.done()
        own_redis.signal(signal.SIGCONT)
        assert len(call.result()) == len(await task) == 2
        await closing_beside


class InterruptedAt:
    """Raises KeyboardInterrupt at one of the steps where Ctrl-C may come, as a profile function."""

    FILES = ("local.py", "blocking.py", "threading.py")
    EVENTS = ("call", "return", "c_return")

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if event in self.EVENTS and frame.f_code.co_filename.endswith(self.FILES):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("kind", ["file", pytest.param("redis", marks=pytest.mark.redis)])
def test_ctrl_c_at_any_step_leaves_it_in_order(
    request: pytest.FixtureRequest, url: str, kind: str
) -> None:
    options: dict[str, Any] = {}
    if kind == "redis":
        url, options = request.getfixturevalue("redis_store")
    make_world("v1").publish(url)
    interrupted = []  # keeps the frames of the calls
    with opened(url, **options) as source, ThreadPoolExecutor(1) as other:
        ask(source, ONE)
        for call in (lambda: ask(source, ONE, 1.0), lambda: source.versions(deadline(1.0))):
            for step in range(1, 1000):
                sys.setprofile(InterruptedAt(step))
                try:
                    call()
                except KeyboardInterrupt as exc:
                    interrupted.append(exc)
                else:
                    break
                finally:
                    sys.setprofile(None)
                assert len(other.submit(ask, source, ONE).result(SECONDS)) == 2
        assert len(interrupted) > 20
        other.submit(source.close).result(SECONDS)
        interrupted.clear()


@pytest.mark.parametrize("kind", ["file", pytest.param("redis", marks=pytest.mark.redis)])
def test_many_threads_get_whole_answers_while_generations_come_and_go(
    request: pytest.FixtureRequest, url: str, kind: str
) -> None:
    options: dict[str, Any] = {}
    if kind == "redis":
        url, options = request.getfixturevalue("redis_store")
    published = [make_world("v1", 0).publish(url)]
    done = threading.Event()
    with opened(url, **options) as source:

        def answers() -> list[tuple[str, bytes]]:
            told = []
            while not done.is_set():
                knowledge = ask(source, {"u": 7, "i": list(ITEMS), "v": "v1"})
                told.append((knowledge.versions["v1"], knowledge.rows.tobytes()))
            return told

        assert answered(source, published[0])()
        with ThreadPoolExecutor() as pool:
            threads = [pool.submit(answers) for _ in range(8)]
            try:
                for seed in range(1, 9):
                    published.append(make_world("v1", seed).publish(url))
                    eventually(answered(source, published[-1]))
            finally:
                done.set()
            told = [answer for thread in threads for answer in thread.result()]
    expected = {world.generation: row_bytes(world, 7, list(ITEMS)) for world in published}
    assert len({generation for generation, _ in told}) > 1
    assert all(rows == expected[generation] for generation, rows in told)


# ---- by a client's URL


async def test_more_rows_than_are_answered_at_once_are_asked_for_in_pieces(worlds: Worlds) -> None:
    asked: dict[str, Any] = {"u": 7, "i": list(ITEMS), "v": "half-defaults", "dtype": "f16"}
    with Client(worlds.url, timeout=SECONDS) as client:
        whole = client.knowledge(**asked)
    with Client(worlds.url, timeout=SECONDS, max_rows=3) as client:
        in_pieces = client.knowledge(**asked)
        assert client.versions()["versions"]
    async with AsyncClient(worlds.url, timeout=SECONDS, max_rows=3) as beside:
        awaited = await beside.knowledge(**asked)
        assert (await beside.versions())["versions"]
    for knowledge in (in_pieces, awaited):
        assert knowledge.rows.tobytes() == whole.rows.tobytes()
        assert knowledge.status.tobytes() == whole.status.tobytes()
        assert (knowledge.parts, knowledge.versions) == (whole.parts, whole.versions)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("file:x", {"hedge_after": 0.1}, r"hedge_after= is for a service; leave it out"),
        ("file:x", {"on_request": print}, r"on_request= is for a service"),
        ("http://x", {"namespace": "a"}, r"namespace= is for a store in this process"),
        (["file:x", "file:y"], {}, r"of stores one$"),
        ("memory:x", {}, r"begins with one of http://, https://, file:, redis://"),
    ],
)
def test_what_cannot_be_is_refused(
    url: str | list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClientUsageError, match=message):
        Client(url, **options)


@pytest.mark.redis
def test_a_deadline_is_told_as_the_caller_gave_it(
    client_of: Open, own_redis: RedisServer, redis_store: tuple[str, dict[str, Any]]
) -> None:
    url, options = redis_store
    with client_of(url, timeout=0.05, **options) as client:
        own_redis.signal(signal.SIGSTOP)
        try:
            with pytest.raises(DeadlineExceededError, match=r"within 0\.05 s; ") as late:
                client.versions()
        finally:
            own_redis.signal(signal.SIGCONT)
    assert late.value.timeout_seconds == 0.05


def test_without_the_extra_it_is_named(url: str) -> None:
    script = """
        import sys
        sys.modules["structlog"] = None
        from gkc import Client, errors
        try:
            Client(sys.argv[1])
        except errors.ClientUsageError as error:
            print(error)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (
        "structlog is not installed, which a store in this process needs; "
        "install the extra: pip install 'gkc[store]'\n"
    )
