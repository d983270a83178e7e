"""Servers in processes of their own: started, pinned to a core, watched and stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

START_SECONDS = 120.0
STOP_SECONDS = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    pid: int
    port: int
    log: Path = Path(os.devnull)
    """What it writes to standard error, if that is kept."""

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def redis_url(self, database: int = 0) -> str:
        """Return where one of its databases is, if it is a Redis server."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has taken so far, its worker processes' too."""
        return sum(_cpu_seconds(pid) for pid in (self.pid, *_children(self.pid)))

    def page_faults(self) -> int:
        """Return how often it has touched memory that was not there yet, worker processes too."""
        return sum(int(_stat(pid)[7]) for pid in (self.pid, *_children(self.pid)))

    def resident_mib(self) -> float:
        """Return its resident memory, worker processes too, shared pages counted in each."""
        return sum(_mib(pid, "status", "VmRSS") for pid in (self.pid, *_children(self.pid)))

    def proportional_mib(self) -> float:
        """Return the memory of all its processes, each shared page counted once among them."""
        return sum(_mib(pid, "smaps_rollup", "Pss") for pid in (self.pid, *_children(self.pid)))


def anonymous_mib(pid: int) -> float:
    """Return the memory of a process that no file stands behind; 0 once it has ended."""
    try:
        return _mib(pid, "status", "RssAnon")
    except (OSError, LookupError):
        return 0.0


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    port: int,
    cores: Collection[int],
    ready: str | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[Server]:
    """Run an HTTP server until the block ends.

    Parameters
    ----------
    name : str
        What results call it.
    command : sequence of str
        Starts it on ``port``.
    port : int
        Where it is to listen.
    cores : collection of int
        Cores that it may use.
    ready : str, optional
        Path that answers 200 once it is ready; without one, it is ready when it listens.
    environment : mapping, optional
        Variables beside those of this process.
    log : Path, optional
        File that gets what it writes to standard error, instead of ours.

    Yields
    ------
    Server
        Ready.

    Raises
    ------
    SystemExit
        If it ends, or is not ready in time.
    """
    with log.open("wb") if log else nullcontext() as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=os.environ | (environment or {}),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(port, ready):
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log else ""
                raise SystemExit(f"{name} did not start: {' '.join(command)}\n{said}".strip())
            time.sleep(0.02)
        yield Server(name, process.pid, port, log or Path(os.devnull))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def redis_serving(folder: Path, cores: Collection[int]) -> Iterator[Server]:
    """Run a Redis server of our own, which saves nothing, until the block ends.

    Raises
    ------
    SystemExit
        If this machine has no ``redis-server``.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("no redis-server on this machine: install one")
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
    with serving("redis-server", command, port, cores) as server:
        yield server


def pinned(cores: Collection[int], command: Sequence[str]) -> list[str]:
    """Return what runs a command on some cores only."""
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]


def events(log: str) -> list[dict[str, Any]]:
    """Return the lines of a log that are JSON; the last one may be half and is left out then."""
    lines = log.splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def separate_cores() -> tuple[frozenset[int], frozenset[int]]:
    """Split the cores that this process may use: one for the service, the others for the rest.

    Returns
    -------
    service, others : frozenset of int
        The same core twice where there is only one.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    return frozenset({first}), frozenset(others or {first})


def _is_ready(port: int, path: str | None) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
        if path is None:
            return True
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False  # not listening yet: that is what is waited for
    finally:
        connection.close()


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime


def _stat(pid: int) -> list[str]:
    """Return what the kernel tells of a process, from what follows its name on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()


def _mib(pid: int, file: str, name: str) -> float:
    """Return an amount of memory that the kernel tells of a process; LookupError if it has none."""
    told = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii", errors="replace")
    found = re.search(rf"^{name}:\s+(\d+) kB$", told, re.MULTILINE)
    if found is None:
        raise LookupError(f"no {name} of {pid}: it has ended")
    return int(found[1]) / 1024


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text(encoding="ascii").split()]
