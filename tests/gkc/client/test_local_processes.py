"""Stores in this process, of several processes: forked, spawned, ended without a word."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from gkc import Client
from gkc.client.local import LocalSource
from gkc.knowledge import Vectors
from gkc.store.durable import lock_file
from gkc.store.mirror import MirrorDirectory
from tests.gkc.client.local_calls import (
    ONE,
    SECONDS,
    ask,
    async_local_source,
    deadline,
    opened,
    question,
    row_bytes,
)
from tests.gkc.world import ITEMS, Worlds, make_world


@pytest.mark.redis
def test_a_fork_opens_anew_and_its_parent_goes_on(redis_store: tuple[str, dict[str, Any]]) -> None:
    url, options = redis_store
    world = make_world("v1").publish(url)
    with opened(url, **options) as source, redis.Redis.from_url(url) as admin:
        ask(source, ONE)
        before = {client["id"] for client in admin.client_list()}
        told = _in_fork(_asked_twice(source, ONE))
        assert told == [row_bytes(world, 7, [11, 12])] * 2
        assert before <= {client["id"] for client in admin.client_list()}
        assert ask(source, ONE).rows.tobytes() == row_bytes(world, 7, [11, 12])


def test_a_fork_while_threads_ask(worlds: Worlds) -> None:
    done = threading.Event()
    body = {"u": 7, "i": [11, 12], "v": "full"}
    with opened(worlds.url) as source, ThreadPoolExecutor() as pool:

        def go_on() -> None:
            while not done.is_set():
                ask(source, body)

        threads = [pool.submit(go_on) for _ in range(4)]
        try:
            for _ in range(5):
                told = _in_fork(_asked_twice(source, body))
                assert told == [row_bytes(worlds["full"], 7, [11, 12])] * 2
        finally:
            done.set()
        for thread in threads:
            thread.result()


def _asked_twice(source: LocalSource, body: Mapping[str, Any]) -> Callable[[], list[bytes]]:
    def answers() -> list[bytes]:
        told = [ask(source, body).rows.tobytes() for _ in range(2)]
        source.close()
        return told

    return answers


def _in_fork(answers: Callable[[], list[bytes]]) -> list[bytes]:
    """Return what a fork of this process is answered."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=lambda: there.send(answers()))
    with warnings.catch_warnings():  # that a process with threads is forked
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    assert here.poll(SECONDS), "the fork does not answer"
    told: list[bytes] = here.recv()
    process.join(SECONDS)
    assert process.exitcode == 0
    return told


def test_a_fork_opens_anew_on_a_loop_of_its_own(worlds: Worlds) -> None:
    source = async_local_source(worlds.url)
    asked = question({"u": 7, "i": 11, "v": "full"})

    async def answer() -> bytes:
        return (await source.knowledge(asked, deadline(SECONDS))).rows.tobytes()

    async def answer_and_close() -> list[bytes]:
        told = [await answer(), await answer()]
        await source.close()
        return told

    with asyncio.Runner() as runner:
        told = runner.run(answer())
        assert _in_fork(lambda: asyncio.run(answer_and_close())) == [told] * 2
        assert runner.run(answer_and_close()) == [told] * 2
    assert told == row_bytes(worlds["full"], 7, [11])


class Rows:
    """A data set of one row an item, as PyTorch's ``DataLoader`` takes one."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __len__(self) -> int:
        return len(ITEMS)

    def __getitem__(self, place: int) -> Vectors:
        row: Vectors = self._client.knowledge(u=7, i=ITEMS[place], v="full").rows[0].copy()
        return row


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_data_loader_s_workers_open_anew(worlds: Worlds, start: str) -> None:
    data = pytest.importorskip("torch.utils.data")
    with Client(worlds.url, timeout=SECONDS) as client:
        first = Rows(client)[0]  # it is open before the workers are there
        loader = data.DataLoader(
            Rows(client), batch_size=4, num_workers=2, multiprocessing_context=start
        )
        told = [batch.numpy() for batch in loader]
        assert np.concatenate(told).tobytes() == row_bytes(worlds["full"], 7, list(ITEMS))
        assert first.tobytes() == row_bytes(worlds["full"], 7, [ITEMS[0]])
        assert Rows(client)[0].tobytes() == first.tobytes()


def ask_client(client: Client) -> bytes:
    return client.knowledge(u=7, i=[11, 12], v="full").rows.tobytes()


def test_a_spawned_process_opens_anew_what_it_is_sent(worlds: Worlds) -> None:
    with Client(worlds.url, timeout=SECONDS, namespace="default") as client:
        told = ask_client(client)
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            assert list(pool.map(ask_client, [client] * 4)) == [told] * 4
    assert told == row_bytes(worlds["full"], 7, [11, 12])


def test_many_processes_share_one_mapping(worlds: Worlds) -> None:
    with Client(worlds.url, timeout=SECONDS) as client:
        ask_client(client)
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            anonymous = list(pool.map(_private_kib_of_tables, [client] * 2))
    assert anonymous == [0, 0]


def _private_kib_of_tables(client: Client) -> int:
    """Return what a process keeps for itself of the tables that it has mapped."""
    ask_client(client)
    told = Path("/proc/self/smaps").read_text(encoding="utf-8")
    _, *mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", told, flags=re.MULTILINE)
    tables = [mapping for mapping in mappings if ".gkt" in mapping.partition("\n")[0]]
    assert tables
    dirty = re.compile(r"^Private_Dirty: +(\d+)", re.MULTILINE)
    return sum(int(kib) for mapping in tables for kib in dirty.findall(mapping))


def run(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Begin a script as its own process, in which every warning is an error."""
    preamble = """
        import logging, sys
        from gkc import Client
        ONE = {"u": 7, "i": [11, 12], "v": "v1"}
    """
    code = textwrap.dedent(preamble) + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.redis
def test_two_processes_of_a_host_build_one_mirror_and_say_where(
    redis_store: tuple[str, dict[str, Any]],
) -> None:
    url, options = redis_store
    make_world("v1").publish(url)
    script = """
        logging.basicConfig(level=logging.INFO)
        with Client(sys.argv[1], mirror_dir=sys.argv[2], timeout=30) as client:
            print(len(client.knowledge(**ONE)))
    """
    both = [run(script, url, options["mirror_dir"]) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in both]
    assert [out for out, _ in told] == ["2\n", "2\n"], told
    built = [line for _, log in told for line in log.splitlines() if "event=mirror_built" in line]
    assert len(built) == 1
    (mirror,) = options["mirror_dir"].glob("*/*.gkt")
    assert f"path={mirror}" in built[0]


@pytest.mark.redis
def test_a_process_ends_while_another_one_builds_the_mirror(
    redis_store: tuple[str, dict[str, Any]],
) -> None:
    url, options = redis_store
    world = make_world("v1").publish(url)
    script = """
        from gkc.errors import DeadlineExceededError, VersionNotReadyError
        client = Client(sys.argv[1], mirror_dir=sys.argv[2], timeout=0.3)
        while True:
            try:
                client.knowledge(**ONE)
            except DeadlineExceededError:
                pass  # a busy machine has not even read the catalogue yet
            except VersionNotReadyError as error:
                print(error)
                break
    """
    directory = MirrorDirectory(options["mirror_dir"], url, "default").directory
    directory.mkdir(parents=True)
    held = lock_file(directory / f"{world.generation}.lock")
    assert held is not None
    try:
        process = run(script, url, options["mirror_dir"])
        told = "version 'v1' is being loaded; ask again shortly\n"
        assert process.communicate(timeout=60) == (told, "")
        assert process.returncode == 0
    finally:
        os.close(held)


def test_a_process_that_ends_without_close_ends_well_and_prints_nothing(url: str) -> None:
    make_world("v1").publish(url)
    process = run("client = Client(sys.argv[1], timeout=30); client.knowledge(**ONE)", url)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
