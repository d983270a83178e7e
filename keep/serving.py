"""Run the real ``gkc-export`` and ``gkc serve``, as a team does, and read knowledge back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from gkc.errors import GkcError
from keep.served import Named, ServedKnowledge

BIN = Path(sys.executable).parent
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
TAIL = 2000
"""Characters of a failed command's output that are shown."""
SETPRIV = shutil.which("setpriv") if sys.platform == "linux" else None
"""Of util-linux: lets a command end with the process that started it, even by SIGKILL."""


class CommandFailedError(GkcError):
    """One of our commands failed."""

    def __init__(self, command: str, problem: str) -> None:
        self.command = command
        self.problem = problem
        super().__init__(f"{command}: {problem}")


def run_quietly(words: Sequence[object], environment: Mapping[str, str]) -> None:
    """Run one of our commands to its end.

    Raises
    ------
    CommandFailedError
        If it exits with another status than 0; shows the end of its output.
    """
    done = subprocess.run(
        _ending_with_us(words),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailedError(
            str(words[0]), f"exited {done.returncode}; it said:\n{done.stdout[-TAIL:]}"
        )


@contextmanager
def serving(store: str, environment: Mapping[str, str], output: Path) -> Iterator[str]:
    """Run ``gkc serve`` on a free port until the block ends; its URL is ready to answer.

    Raises
    ------
    CommandFailedError
        If it does not become ready; shows the end of its output.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    words = _ending_with_us(["gkc", "serve", "--store", store, "--port", port])
    with output.open("w") as file:
        process = subprocess.Popen(words, env=environment, stdout=file, stderr=file)
        try:
            _wait_until_ready(process, port, output)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def served_knowledge(
    bundle: Path, work: Path, dtype: str = "f16", named: Named | None = None
) -> Iterator[ServedKnowledge]:
    """Export a bundle as ``f16``, ``f32`` or ``int8`` into a store of its own, serve it, and ask.

    What answers takes a log's users, items and categories to rows of equation 6, over HTTP;
    ``named`` as for `ServedKnowledge`.

    Raises
    ------
    CommandFailedError
        If the export fails or the service does not become ready.
    """
    version, store = "v", f"file:{work / f'store-{dtype}'}"
    # Settings of whoever runs this must not reach the commands.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GKC_"}
    source = ("--version", version, "--bundle", bundle)
    target = ("--store", store, "--dtype", dtype, "--grace-seconds", 0)
    run_quietly(["gkc-export", *source, *target], environment)
    with (
        serving(store, environment, work / f"serve-{dtype}.log") as url,
        ServedKnowledge(url, version, named) as knowledge,
    ):
        yield knowledge


def _ending_with_us(words: Sequence[object]) -> list[str]:
    """Spell out one of our commands so that it is stopped when this process ends, if it can be."""
    name, *arguments = map(str, words)
    guard = [SETPRIV, "--pdeathsig", "TERM", "--"] if SETPRIV else []
    return [*guard, str(BIN / name), *arguments]


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # Not listening yet: that is what we wait for.
        finally:
            connection.close()
        time.sleep(0.05)
    said = output.read_text(encoding="utf-8", errors="replace")[-TAIL:]
    ended = process.poll()
    problem = f"not ready after {READY_SECONDS:.0f} s" if ended is None else f"exited {ended}"
    raise CommandFailedError("gkc serve", f"{problem}; it said:\n{said}")
