"""Worker processes end with the process that started them, also by SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keep.log import Log
from tests.keep.tiny import tiny_log

SECONDS = 60.0
PARENT = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
from keep.reproduce.pool import workers

@dataclass(frozen=True)
class Endless:
    name = "endless"
    def file(self, out):
        return out / "never"
    def do(self, shop):
        (shop.out / f"pid-{os.getpid()}").touch()
        time.sleep(600)

if __name__ == "__main__":
    with workers(Path(sys.argv[1]), Path(sys.argv[2]), 5) as pool:
        pool.run("waiting", [Endless()])
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return tiny_log(tmp_path_factory.mktemp("log") / "log")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(log: Log, tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "out"
    out.mkdir()
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    command = [sys.executable, str(script), str(log.path), str(out)]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) as parent:
        deadline = time.monotonic() + SECONDS
        while not (started := list(out.glob("pid-*"))) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(started) == 1
        pid = int(started[0].name.removeprefix("pid-"))
        assert is_running(pid)
        parent.send_signal(how)
    deadline = time.monotonic() + SECONDS
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)
