"""Both clients against real services: bits, pieces, processes, threads, loops."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import uvloop

import gkc
from gkc import AsyncClient, Client
from gkc.client import AttemptReport
from gkc.errors import (
    ClientUsageError,
    InvalidFieldsError,
    ServiceError,
    VersionNotFoundError,
)
from gkc.knowledge import PARTS
from tests.commands import Place, free_port, start, wait_for
from tests.gkc.client.clients import ALL_ITEMS, WIDE, Open, expected
from tests.gkc.client.hostile import hostile, right
from tests.gkc.world import (
    CATEGORIES,
    STRANGERS,
    STRINGS,
    USERS,
    Worlds,
    named,
    versions_of,
)

VERSIONS = ("half", "half-defaults", "full", "full-defaults", "int8", "int8-defaults", "wide")
IDS = [*USERS, *STRANGERS]


# ---- bits


@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("version", VERSIONS)
def test_rows_are_the_very_bits(
    client_of: Open, served: str, worlds: Worlds, version: str, dtype: str
) -> None:
    world = worlds[version]
    with client_of(served, timeout=WIDE) as client:
        for user in IDS[:5]:
            answer = client.knowledge(u=user, i=ALL_ITEMS, v=version, dtype=dtype)
            asked = [(user, item, None) for item in ALL_ITEMS]
            bits, status = expected(world, asked, PARTS, dtype)
            assert answer.rows.tobytes() == bits
            assert answer.status.tolist() == status
            assert answer.versions == {version: world.generation}


@pytest.mark.parametrize("strings", STRINGS)
def test_ids_may_be_strings(
    client_of: Open, served: str, worlds: Worlds, strings: Sequence[str]
) -> None:
    for version in versions_of(strings):
        users, items, categories = (
            [named(kind, id_, strings) for id_ in ids]
            for kind, ids in (("user", IDS), ("item", ALL_ITEMS), ("category", [3, 77]))
        )
        asked = [(users[0], item, category) for item in items for category in (*categories, None)]
        with client_of(served, timeout=WIDE) as client:
            answer = client.knowledge(
                u=users[0],
                i=np.array([item for _, item, _ in asked]),
                c=[category for *_, category in asked],
                v=version,
            )
        bits, status = expected(worlds[version], asked, PARTS, "f32")
        assert answer.rows.tobytes() == bits
        assert answer.status.tolist() == status


def test_ids_of_another_type_are_named(client_of: Open, served: str) -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"u": "a", "i": [1, 2]}, "/u is a string, but users of version 'half' are integers"),
        ({"u": 7, "i": ["a"]}, "/i/0 is a string, but items of version 'half' are integers"),
        ({"u": 7, "i": np.array("a")}, "/i is a string, but items of version 'half' are integers"),
        (
            {"u": 7, "i": 1, "c": [None, "a"]},
            "/c/1 is a string, but categories of version 'half' are integers",
        ),
    )
    with client_of(served, timeout=WIDE) as client:
        for ids, says in cases:
            with pytest.raises(InvalidFieldsError) as told:
                client.knowledge(**ids, v="half")
            assert told.value.detail == says
            assert [error.field for error in told.value.errors] == [says.partition(" ")[0]]


@pytest.mark.parametrize("parts", [("user",), ("user_category", "item"), PARTS[::-1]])
def test_parts_and_categories(
    client_of: Open, served: str, worlds: Worlds, parts: Sequence[str]
) -> None:
    world = worlds["half"]
    categories: list[int | None] = [*CATEGORIES, None, 77, None]
    with client_of(served, timeout=WIDE) as client:
        answer = client.knowledge(u=7, i=11, c=categories, v="half", parts=parts)
        bits, status = expected(world, [(7, 11, c) for c in categories], parts, "f32")
        assert answer.rows.tobytes() == bits
        assert answer.status.tolist() == status
        assert list(answer.parts) == [part for part in PARTS if part in parts]
        for part in answer.parts:
            bits, _ = expected(world, [(7, 11, c) for c in categories], (part,), "f32")
            assert answer[part].tobytes() == bits


def test_users_and_versions_may_differ_from_row_to_row(
    client_of: Open, served: str, worlds: Worlds
) -> None:
    versions = ["half", "full", "full", "int8"]
    users = np.array([7, -3, 12, 0], dtype=np.int16)
    with client_of(served, timeout=WIDE) as client:
        answer = client.knowledge(u=users, i=12, v=versions)
    for row, user, version in zip(answer.rows, users.tolist(), versions, strict=True):
        bits, _ = expected(worlds[version], [(user, 12, None)], PARTS, "f32")
        assert row.tobytes() == bits
    assert answer.versions == {v: worlds[v].generation for v in dict.fromkeys(versions)}


@pytest.mark.parametrize(
    ("question", "n"),
    [
        ({"u": 7, "i": [], "v": "half"}, 0),
        ({"u": [], "i": [], "v": []}, 0),
        ({"u": 7, "i": 11, "v": "half"}, 1),
        ({"u": 7, "i": 11, "v": ["half"] * 4}, 4),
        ({"u": 7, "i": 11, "c": [None] * 3, "v": "half"}, 3),
        ({"u": 7, "i": 11, "c": [3] * 3, "v": "half"}, 3),
    ],
)
def test_how_many_rows(client_of: Open, served: str, question: dict[str, Any], n: int) -> None:
    with client_of(served, timeout=WIDE) as client:
        answer = client.knowledge(**question)
    assert len(answer) == n
    assert answer.status.shape == (n, 4)


def test_versions_are_the_services_list(client_of: Open, served: str, worlds: Worlds) -> None:
    with client_of(served, timeout=WIDE) as client:
        listed = {entry["version"]: entry for entry in client.versions()["versions"]}
    assert listed["half"]["generation"] == worlds["half"].generation
    assert listed["wide"]["dim"] == 5


def test_errors_are_the_services(client_of: Open, served: str) -> None:
    with client_of(served, timeout=WIDE) as client:
        with pytest.raises(VersionNotFoundError, match="'none-such' is not in the store") as gone:
            client.knowledge(u=7, i=11, v="none-such")
        assert gone.value.version == "none-such"
        assert "half" in gone.value.known
        with pytest.raises(InvalidFieldsError, match="widths") as unequal:
            client.knowledge(u=7, i=[11, 12], v=["half", "wide"])
        assert [error.field for error in unequal.value.errors] == ["/v"]
        with pytest.raises(InvalidFieldsError, match="may overflow"):
            client.knowledge(u=7, i=11, v="large", dtype="f16")


# ---- memory


def test_rows_are_read_only_and_outlive_the_client(client_of: Open, served: str) -> None:
    with client_of(served, timeout=WIDE) as client:
        answer = client.knowledge(u=7, i=ALL_ITEMS, v="half")
        before = answer.rows.copy()
        part = answer["item"]
    assert np.shares_memory(part, answer.rows)
    del client
    gc.collect()
    with pytest.raises(ValueError, match="read-only"):
        answer.rows[0, 0] = 1.0
    assert answer.rows.tobytes() == before.tobytes()


# ---- how a client is made and used


def test_a_closed_client_says_so(served: str) -> None:
    client = Client(served)
    client.close()
    client.close()
    with pytest.raises(ClientUsageError, match="closed"):
        client.knowledge(u=7, i=11, v="half")
    with pytest.raises(ClientUsageError, match="closed"):
        client.versions()
    with pytest.raises(ClientUsageError, match="closed"), client:
        pass


async def test_a_closed_async_client_says_so(served: str) -> None:
    async with AsyncClient(served, timeout=WIDE) as client:
        await client.knowledge(u=7, i=11, v="half")
    await client.close()
    with pytest.raises(ClientUsageError, match="closed"):
        await client.knowledge(u=7, i=11, v="half")
    with pytest.raises(ClientUsageError, match="closed"):
        async with client:
            pass


def test_an_async_client_belongs_to_one_loop(served: str) -> None:
    client = AsyncClient(served, timeout=WIDE)
    with asyncio.Runner() as first:
        first.run(client.versions())
        with asyncio.Runner() as second, pytest.raises(ClientUsageError, match="another event"):
            second.run(client.versions())
        first.run(client.close())


async def test_a_cancelled_task_leaves_the_client_whole(served: str) -> None:
    with hostile(lambda asked: [0.3, *right(asked)]) as server:
        async with AsyncClient(server.url, timeout=WIDE) as client:
            task = asyncio.create_task(client.knowledge(u=7, i=[1, 2], v="v1"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(await client.knowledge(u=7, i=[1, 2], v="v1")) == 2


def test_an_async_client_may_be_closed_after_its_loop(served: str) -> None:
    client = AsyncClient(served, timeout=WIDE)
    asyncio.run(client.versions())
    asyncio.run(client.close())


def test_uvloop_runs_it_as_well(served: str, worlds: Worlds) -> None:
    async def ask() -> bytes:
        async with AsyncClient(served, timeout=WIDE) as client:
            answers = await asyncio.gather(
                *(client.knowledge(u=7, i=ALL_ITEMS, v="half") for _ in range(20))
            )
        return answers[-1].rows.tobytes()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        bits = runner.run(ask())
    asked = [(7, item, None) for item in ALL_ITEMS]
    assert bits == expected(worlds["half"], asked, PARTS, "f32")[0]


async def test_many_tasks_at_once(served: str, worlds: Worlds) -> None:
    reports: list[AttemptReport] = []
    async with AsyncClient(served, timeout=WIDE, on_request=reports.append) as client:
        answers = await asyncio.gather(
            *(client.knowledge(u=u, i=ALL_ITEMS, v="half") for u in IDS * 20)
        )
    for user, answer in zip(IDS * 20, answers, strict=True):
        asked = [(user, item, None) for item in ALL_ITEMS]
        assert answer.rows.tobytes() == expected(worlds["half"], asked, PARTS, "f32")[0]
    assert [report.rows for report in reports].count(0) == 1, "one asks which versions there are"
    assert {report.outcome for report in reports} == {200}


def test_many_threads_at_once(served: str, worlds: Worlds) -> None:
    with Client(served, timeout=WIDE) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda u: client.knowledge(u=u, i=ALL_ITEMS, v="half"), IDS * 20))
    for user, answer in zip(IDS * 20, answers, strict=True):
        asked = [(user, item, None) for item in ALL_ITEMS]
        assert answer.rows.tobytes() == expected(worlds["half"], asked, PARTS, "f32")[0]


def test_an_error_of_the_hook_reaches_the_caller(client_of: Open, served: str) -> None:
    def hook(_: object) -> None:
        raise ZeroDivisionError

    with (
        client_of(served, timeout=WIDE, on_request=hook) as client,
        pytest.raises(ZeroDivisionError),
    ):
        client.knowledge(u=7, i=11, v="half")


# ---- processes


def _rows_of(client: Client) -> bytes:
    return client.knowledge(u=7, i=ALL_ITEMS, v="half").rows.tobytes()


def _asked_in_child(client: Client, sending: Any) -> None:
    sending.send_bytes(_rows_of(client))
    client.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_opens_anew(served: str, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with Client(served, timeout=WIDE) as client:
        mine = _rows_of(client)
        receiving, sending = context.Pipe()
        child = context.Process(target=_asked_in_child, args=(client, sending))
        child.start()
        assert receiving.recv_bytes() == mine
        child.join()
        assert child.exitcode == 0
        assert _rows_of(client) == mine


def test_a_child_leaves_the_parents_connections_alone() -> None:
    with hostile(right) as server, Client(server.url, timeout=WIDE) as client:
        ask: dict[str, Any] = {"u": 7, "i": [1, 2], "v": "v1"}
        client.knowledge(**ask)
        pid = os.fork()
        if pid == 0:
            try:
                client.knowledge(**ask)
                client.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        client.knowledge(**ask)
        assert server.connections == 2


async def _in_child(client: AsyncClient, what: str) -> None:
    if what == "ask":
        await client.knowledge(u=7, i=[1, 2], v="v1")
    await client.close()


@pytest.mark.parametrize("what", ["close", "ask"])
async def test_a_child_leaves_the_parents_event_loop_alone(what: str) -> None:
    with hostile(right) as server:
        async with AsyncClient(server.url, timeout=WIDE) as client:
            ask: dict[str, Any] = {"u": 7, "i": [1, 2], "v": "v1"}
            await client.knowledge(**ask)
            pid = os.fork()
            if pid == 0:
                try:
                    asyncio._set_running_loop(None)  # the parent's
                    asyncio.run(_in_child(client, what))
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0  # noqa: ASYNC222 - nothing else is to run
            await client.knowledge(**ask)
            assert server.connections == (2 if what == "ask" else 1)


def test_a_fork_while_other_threads_ask(served: str) -> None:
    with Client(served, timeout=WIDE) as client:
        mine = _rows_of(client)
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                _rows_of(client)

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                pid = os.fork()
                if pid == 0:
                    os._exit(0 if _rows_of(client) == mine else 1)
                assert os.waitpid(pid, 0)[1] == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_pickling_keeps_url_and_options(kind: type[Client]) -> None:
    client = kind(["http://a:1", "http://b:2"], timeout=0.25, retries=5, hedge_after=0.1)
    copy = pickle.loads(pickle.dumps(client))
    assert type(copy) is kind
    assert vars(copy)["_options"] == vars(client)["_options"]
    assert repr(copy) == repr(client) == f"<{kind.__name__} of http://a:1, http://b:2>"


@contextmanager
def _serving(url: str, port: int) -> Iterator[None]:
    process = start("gkc", "serve", "--port", port, place=Place(url, "default"))
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_service_that_is_restarted_is_asked_again(client_of: Open, worlds: Worlds) -> None:
    port = free_port()
    ask: dict[str, Any] = {"u": 7, "i": ALL_ITEMS, "v": "half"}
    with client_of(f"http://127.0.0.1:{port}", timeout=WIDE) as client:
        with _serving(worlds.url, port):
            before = client.knowledge(**ask).rows.tobytes()
        with pytest.raises(ServiceError, match="Connection refused"):
            client.knowledge(**ask)
        with _serving(worlds.url, port):
            assert client.knowledge(**ask).rows.tobytes() == before


# ---- what comes with it


def test_the_package_has_the_clients_by_name() -> None:
    assert {"AsyncClient", "Client"} <= set(gkc.__all__)
    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = gkc.NoSuchThing


def test_a_client_over_http_imports_little() -> None:
    heavy = ("asyncio", "structlog", "orjson", "redis", "pydantic", "pyarrow", "torch")
    code = f"""
import sys
from gkc import AsyncClient, Client
with Client("http://127.0.0.1:1") as client:
    pass
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
