"""What a server takes is that of all its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes import Server, free_port, redis_serving, serving


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


def test_a_server_that_does_not_start_is_told_of_in_its_own_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('out of luck')"]
    cores = os.sched_getaffinity(0)
    with (
        pytest.raises(SystemExit, match=r"unlucky did not start: .*\nout of luck"),
        serving("unlucky", command, free_port(), cores, log=tmp_path / "log"),
    ):
        pass


def test_without_redis_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="no redis-server"), redis_serving(tmp_path, {0}):
        pass
