"""The commands as a user runs them: real processes, their output and their exit status."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

BIN = Path(sys.executable).parent
START_SECONDS = 60.0
http_once = httpx.Client(verify=False, timeout=10, limits=httpx.Limits(max_keepalive_connections=0))
"""To ask a service once: each question on a connection of its own, as ``httpx.get`` asks, which
reads the certificates of all the world every time."""


@dataclass(frozen=True)
class Place:
    """A store and the namespace in it that a test uses."""

    url: str
    namespace: str

    @property
    def environment(self) -> dict[str, str]:
        """The settings that send a command there."""
        return {"GKC_STORE_URL": self.url, "GKC_NAMESPACE": self.namespace}


def command(
    *args: object, place: Place | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end and return what it printed."""
    name, *rest = (str(a) for a in args)
    return subprocess.run(
        [str(BIN / name), *rest],
        env=_environment(place, env),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def done(*args: object, place: Place | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed and return its standard output."""
    return output(command(*args, place=place, env=env))


def output(result: subprocess.CompletedProcess[str]) -> str:
    """Return the standard output of a command that must have succeeded."""
    code = result.returncode
    assert code == 0, f"{result.args} exited {code}:\n{result.stderr}"
    return result.stdout


def export(
    bundle: Path,
    version: str,
    place: Place,
    *args: object,
    grace_seconds: float = 0,
    run: Callable[..., str] = done,
) -> dict[str, Any]:
    """Export a bundle and return the command's JSON summary."""
    out = run(
        *("gkc-export", "--version", version, "--bundle", bundle, "--json"),
        *("--grace-seconds", grace_seconds, *args),
        place=place,
    )
    summary = json.loads(out)
    assert isinstance(summary, dict)
    return summary


def start(
    *args: object,
    place: Place,
    env: Mapping[str, str] | None = None,
    stderr: int | None = None,
    process_group: int | None = None,
) -> subprocess.Popen[str]:
    """Start one of our commands and return at once."""
    name, *rest = (str(a) for a in args)
    return subprocess.Popen(
        [str(BIN / name), *rest],
        env=_environment(place, env),
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        process_group=process_group,
        text=True,
    )


PATIENT: Final = {"GKC_STORE_TIMEOUT_MS": "10000"}
"""For a service whose generations are deleted at once: on a busy machine a new one takes long to
load, and no longer than this is it waited for."""


@contextmanager
def service(
    place: Place, *args: object, env: Mapping[str, str] | None = None, wait: bool = True
) -> Iterator[str]:
    """Run ``gkc serve`` on a free port; yield its base URL, and stop it gracefully at the end."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start("gkc", "serve", "--port", port, *args, place=place, env=env)
    try:
        wait_for(f"{url}/readyz" if wait else f"{url}/livez", process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


@contextmanager
def logged_service(
    command: Sequence[object], log: Path, url: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a service by a command of one's own, all that it says in a file, as `service` does."""
    with log.open("w") as output:
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output, text=True)
        try:
            wait_for(f"{url}/readyz", process)
            yield process
        finally:
            process.terminate()
            process.wait(30)


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    """Wait until a URL answers 200, or fail when the process dies or time is up."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the service exited {process.returncode}"
        try:
            if http_once.get(url).status_code == 200:
                return
        except httpx.TransportError:
            # Not listening yet: that is what we wait for.
            time.sleep(0.05)
            continue
        time.sleep(0.05)
    raise AssertionError(f"{url} did not answer 200 within {START_SECONDS} s")


def lives(pid: int) -> bool:
    """Tell whether a process has not ended, be it that nobody asked yet how it did."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def free_port() -> int:
    """Return a TCP port that nothing listens on right now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _environment(place: Place | None, env: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(place.environment if place else {}), **(env or {})}
