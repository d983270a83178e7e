"""Load over HTTP from wrk, Debian's: closed, with every request made beforehand."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import Server

SCRIPT = Path(__file__).parent / "load.lua"


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
    """Write the bodies that a run sends in turn, a line of JSON each.

    Parameters
    ----------
    bodies : sequence of dict
        Requests.
    file : Path
        Where to.

    Returns
    -------
    Path
        ``file``.
    """
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


def load(
    server: Server,
    bodies: Path,
    accept: str,
    cores: Collection[int],
    *,
    concurrency: int,
    seconds: float,
    path: str = "/knowledge",
) -> Load:
    """Send requests as fast as they are answered, a fixed number of them at a time.

    Parameters
    ----------
    server : Server
        Who is asked.
    bodies : Path
        What ``write_bodies`` wrote.
    accept : str
        Media type of the answers.
    cores : collection of int
        Cores of the load generator.
    concurrency : int
        Connections, each with one request under way.
    seconds : float
        How long; a whole number, as wrk takes no other.
    path : str
        What is asked.

    Returns
    -------
    Load
        Counts and times.

    Raises
    ------
    SystemExit
        If wrk is not there, or fails.
    """
    pinned = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), find_wrk()]
    how = [
        "-t1",
        f"-c{concurrency}",
        f"-d{seconds:g}s",
        "--timeout",
        "30s",
        "--latency",
        "-s",
        str(SCRIPT),
    ]
    target = [f"http://127.0.0.1:{server.port}{path}", "--", str(bodies), accept]
    before, faults_before = server.cpu_seconds(), server.page_faults()
    done = subprocess.run([*pinned, *how, *target], capture_output=True, text=True, check=False)
    cpu, faults = server.cpu_seconds() - before, server.page_faults() - faults_before
    if done.returncode:
        raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    requests = max(found["requests"], 1)
    return Load(**found, cpu_ms=1000 * cpu / requests, page_faults=faults / requests)
