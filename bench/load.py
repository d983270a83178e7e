"""Load over HTTP from wrk, Debian's: closed, with every request made beforehand."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.processes import Server, pinned
from gkc.knowledge import SAFETENSORS

SCRIPT: Final = Path(__file__).parent / "load.lua"
CONCURRENCY: Final = 4


@dataclass(frozen=True)
class Ask:
    """Requests of one kind to one server."""

    server: Server
    bodies: Path
    """What `write_bodies` wrote; sent in turn."""
    accept: str = SAFETENSORS
    """Media type of the answers."""
    concurrency: int = CONCURRENCY
    """Connections, each with one request under way."""
    path: str = "/knowledge"


@dataclass(frozen=True)
class Load:
    """What one run of wrk found."""

    requests: int
    seconds: float
    failed: int
    """Answers of status 400 and above, and requests without an answer."""
    bytes_read: int
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """CPU time of the server for each request."""
    page_faults: float
    """Of the server for each request."""

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def write_bodies(bodies: Sequence[dict[str, Any]], file: Path) -> Path:
    """Write the bodies that a run sends in turn, a line of JSON each; return the file."""
    lines = [json.dumps(body, separators=(",", ":")) for body in bodies]
    file.write_text("\n".join(lines) + "\n", encoding="ascii")
    return file


def find_wrk() -> str:
    """Return where wrk is.

    Raises
    ------
    SystemExit
        If it is not on this machine.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("no wrk on this machine: apt-get install wrk")
    return wrk


def load(asked: Ask, cores: Collection[int], seconds: int) -> Load:
    """Send requests as fast as they are answered, from these cores.

    Raises
    ------
    SystemExit
        If wrk is not there, or fails.
    """
    server = asked.server
    how = ["-t1", f"-c{asked.concurrency}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    what = ["-s", str(SCRIPT), server.url + asked.path, "--", str(asked.bodies), asked.accept]
    before, faults_before = server.cpu_seconds(), server.page_faults()
    command = pinned(cores, [find_wrk(), *how, *what])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    cpu, faults = server.cpu_seconds() - before, server.page_faults() - faults_before
    if done.returncode:
        raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
    counts = json.loads(done.stdout.splitlines()[-1])
    requests = max(counts["requests"], 1)
    return Load(**counts, cpu_ms=1000 * cpu / requests, page_faults=faults / requests)
