"""Starts are set against the start of the same kind and round; memory counts shared pages once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes import Server
from bench.start import FEW, Found, Stores, count_loaded, measure_memory, section, time_start
from bench.world import Shape, export


def test_a_start_is_set_against_the_one_with_few_items_in_its_round() -> None:
    found = Found()
    found.seconds["embedded", FEW] = [1.0, 2.0]
    found.seconds["embedded", 10_000] = [3.0, 3.0]
    found.memory[1, 10_000], found.memory[2, 10_000] = [100.0, 50.0], [150.0, 100.0]
    assert found.times("embedded", 10_000) == [3.0, 1.5]
    assert found.workers(10_000) == [1.5, 2.0]


def test_workers_that_loaded_are_counted_in_a_log_that_is_being_written() -> None:
    loaded = '{"event": "generation_loaded", "generation": "1-a"}\n'
    log = '{"event": "mirror_built", "seconds": 1}\nsome warning\n' + loaded + loaded
    assert count_loaded(log) == 2
    assert count_loaded(log + loaded[:-5]) == 2


def test_pages_that_processes_share_count_once(tmp_path: Path) -> None:
    file, size = tmp_path / "pages", 64 << 20
    file.write_bytes(bytes(size))
    code = (
        "import mmap, os, sys; f = os.open(sys.argv[1], os.O_RDONLY);"
        "m = mmap.mmap(f, 0, access=mmap.ACCESS_READ); n = sum(m[::mmap.PAGESIZE]);"
        "sys.argv[2:] and os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, '-c', "
        "sys.argv[2], sys.argv[1]]); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file), code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()  # its child has mapped them as well
        told = Server("two", process.pid, 0).proportional_mib()
        process.communicate()
    assert 64 < told < 2 * 64


def test_a_peak_is_of_what_came_after_it_was_forgotten() -> None:
    code = "import sys; bytearray(b'x' * (64 << 20)); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        server = Server("python", process.pid, 0)
        assert server.peak_mib() > 64
        server.forget_peak()
        assert server.peak_mib() < 64
        process.communicate()


@pytest.mark.slow
def test_starts_and_memory_of_a_small_embedded_store(tmp_path: Path) -> None:
    store = f"file:{tmp_path}/store"
    export(tmp_path / "bundle", Shape(users=10, items=FEW, pairs=2), store)
    stores = Stores(store, store, tmp_path / "mirrors")
    cores = os.sched_getaffinity(0)
    assert time_start("embedded", stores, cores) > 0
    assert measure_memory(stores, 1, cores) > 0


def test_every_figure_has_a_name_of_its_own() -> None:
    found = Found()
    for items in (FEW, 5000):
        for kind in ("embedded", "Redis, mirror there", "Redis, mirror to be built"):
            found.seconds[kind, items] = [1.0]
        for workers in (1, 2):
            found.memory[workers, items] = [1.0]
    names = [figure.name for figure in section(found, [5000]).figures]
    assert len(names) == len(set(names))
