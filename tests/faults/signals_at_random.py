"""Signals at random moments to ``gkc serve``: no accepted request fails, and nothing is left.

    python -m tests.faults.signals_at_random --moments 20 --seed 1

Two workers on a real Redis, callers that keep their connections, and some that do not. Each life of
the service meets a signal while it starts, and others while it serves, or while exports run beside
it; the last one ends it. A request counts as failed whatever went wrong with it, but where

- its connection was refused, or was made while nobody served yet and nobody ever did, or
- the very worker that had its connection was sent SIGKILL.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import typer

from tests.commands import Place, export, free_port, http_once, lives, start
from tests.exporter.bundles import build
from tests.redis_server import RedisServer, find_redis_server

CALLERS: Final = 6
KEPT_FOR: Final = 20
"""So many requests most callers keep a connection, to reach new workers, too; the last two one."""
ASK_SECONDS: Final = 60.0
"""Longer than a busy machine may hold up a caller; an answer that never comes is a failure."""
BODY: Final = json.dumps({"u": 1, "i": [1, 2, 3], "v": "v1"})
START_SECONDS: Final = 1.5
PAUSE_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 10
STORE_TIMEOUT_MS: Final = 10_000
"""Longer than a busy machine may hold up a worker: what is looked for is what signals do."""
Blow = tuple[signal.Signals, str]
SURVIVED: Final[tuple[Blow, ...]] = (
    (signal.SIGHUP, "parent"),
    (signal.SIGTERM, "worker"),
    (signal.SIGKILL, "worker"),
    (signal.SIGHUP, "worker"),
)
FATAL: Final[tuple[Blow, ...]] = ((signal.SIGTERM, "parent"), (signal.SIGKILL, "parent"))
ENDS: Final = {signal.SIGTERM: (0, -signal.SIGTERM), signal.SIGKILL: (-signal.SIGKILL,)}
"""Exit status of the parent; before it can handle SIGTERM, the system ends it."""
PHASES: Final = ("serving", "publishing")
Row = tuple[str, str]
"""Phase and signal."""


@dataclass
class Found:
    """What was seen after each kind of signal in each phase."""

    moments: Counter[Row] = field(default_factory=Counter)
    answered: Counter[Row] = field(default_factory=Counter)
    lost: Counter[Row] = field(default_factory=Counter)
    failed: defaultdict[Row, list[str]] = field(default_factory=lambda: defaultdict(list))
    left: defaultdict[Row, list[str]] = field(default_factory=lambda: defaultdict(list))

    forsaken: set[Path] = field(default_factory=set)
    """Left by a parent that was killed before it had workers: the next start is to remove it."""

    def faults(self) -> list[str]:
        """Return what failed, and what was left."""
        told = *self.failed.items(), *self.left.items()
        return [f"{' '.join(row)}: {fault}" for row, faults in told for fault in faults]

    def print(self) -> None:
        columns = "moments", "answered", "lost", "failed", "left"
        print(f"{'phase':12}{'signal':18}" + "".join(f"{name:>10}" for name in columns))
        for row, moments in sorted(self.moments.items()):
            counts = self.answered[row], self.lost[row], len(self.failed[row]), len(self.left[row])
            print(f"{row[0]:12}{row[1]:18}" + "".join(f"{n:10}" for n in (moments, *counts)))
        for fault, count in Counter(self.faults()).most_common(20):
            print(f"{fault} ({count} times)")


class Life:
    """One service from its start to its end, and those who call it all the while."""

    def __init__(self, place: Place, environment: dict[str, str], found: Found) -> None:
        self._found = found
        self._row: Row = ("start", "none yet")
        self._port = free_port()
        self._failures: list[tuple[int, Row, str]] = []
        self._excused: set[int] = set()
        self._ending: set[int] = set()
        self._was_ready = False
        self._was_served = self._had_workers = True
        self._stop = threading.Event()
        self._temporary = Path(environment["TMPDIR"])
        self.process = start(
            *("gkc", "serve", "--workers", 2, "--port", self._port),
            place=place,
            env=environment,
            process_group=0,
        )
        self._callers = [
            threading.Thread(target=self._call, args=(KEPT_FOR if n < CALLERS - 2 else 1,))
            for n in range(CALLERS)
        ]
        for thread in self._callers:
            thread.start()

    def workers(self) -> list[int]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [pid for pid in map(int, children.split()) if lives(pid)]

    def wait_until_whole(self) -> None:
        """Wait until two workers that stay have callers, and the host is ready."""
        called: set[int] = set()

        def is_whole() -> bool:
            workers = self.workers()
            called.update(pid for pid in workers if held_ports(self._port, pid))
            if len(workers) != 2 or self._ending.intersection(workers):
                return False
            return called.issuperset(workers) and self._is_ready()

        until(is_whole)
        self._was_ready = True

    def _is_ready(self) -> bool:
        return http_once.get(f"http://127.0.0.1:{self._port}/readyz").status_code == 200

    def strike(self, phase: str, blow: Blow, rng: random.Random) -> None:
        """Send a signal; note who held which connection at that moment."""
        number, target = blow
        if target == "worker" or number == signal.SIGHUP:  # which ends a parent that only begins
            until(lambda: bool(self.workers()))
        workers = self._stopped_workers()
        while target == "worker" and not workers:
            workers = self._stopped_workers()
        held = {pid: held_ports(self._port, pid) for pid in workers}
        struck = rng.choice(workers) if target == "worker" else self.process.pid
        if number != signal.SIGHUP:
            self._ending.add(struck)
        self._row = (phase, f"{number.name} {target}")
        self._found.moments[self._row] += 1
        if number == signal.SIGKILL and target == "worker":
            self._excused |= held[struck]
        self._was_served = any(held.values())
        self._had_workers = bool(workers)
        self._held = f"held {[len(h) for h in held.values()]}"
        for pid, sent in ((struck, number), *((pid, signal.SIGCONT) for pid in workers)):
            with suppress(ProcessLookupError):  # it was sent SIGKILL, by us or by its parent
                os.kill(pid, sent)

    def _stopped_workers(self) -> list[int]:
        """Stop all workers; return those that did not end meanwhile, nor will before they go on."""
        workers = self.workers()
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        until(lambda: all(map(is_stopped, workers)))
        return [pid for pid in workers if lives(pid)]

    def end(self) -> None:
        """Look at what is left after the end; count what callers met."""
        left = self._found.left[self._row]
        status = self.process.wait(30)
        if status not in ENDS[signal.Signals[self._row[1].split()[0]]]:
            left.append(f"exit status {status}")
        try:
            until(lambda: not group(self.process.pid))
        except AssertionError:
            left.append(f"processes {group(self.process.pid)}")
        if not self._had_workers and signal.SIGKILL.name in self._row[1]:
            self._found.forsaken |= set(self._temporary.iterdir())
        here = set(self._temporary.iterdir())
        left += [f"{path.name} in TMPDIR" for path in here - self._found.forsaken]
        self._stop.set()
        for thread in self._callers:
            thread.join()
        try:
            http.client.HTTPConnection("127.0.0.1", self._port, timeout=2).connect()
            left.append("a listener")
        except ConnectionRefusedError:
            pass
        for port, row, what in self._failures:
            if port in self._excused:
                self._found.lost[row] += 1
            elif self._was_served or self._was_ready:
                self._found.failed[row].append(f"{what}; {self._held}")

    def give_up(self) -> None:
        """End what is left of it, however far it came."""
        self._stop.set()
        if group(self.process.pid):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _call(self, most: int) -> None:
        connection, port, asked, first = None, 0, 0, None
        while not self._stop.is_set():
            time.sleep(0.005)
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(
                        "127.0.0.1", self._port, timeout=ASK_SECONDS
                    )
                    connection.connect()
                    port, asked = connection.sock.getsockname()[1], 0
            except ConnectionRefusedError:
                connection = None
                continue
            may_wait, row = not self._was_ready, self._row
            try:
                status, knowledge, ends = ask(connection)
            except (OSError, http.client.HTTPException) as exc:
                told = f"{exc!r}, asked after {row} as number {asked} of its connection"
                self._failures.append((port, self._row, told))
                connection.close()
                connection = None
                continue
            asked += 1
            if first is None and status == 200:
                first = knowledge
            if status == 200 and knowledge == first:
                self._found.answered[row] += 1
            elif status != 503 or not may_wait:
                self._failures.append((port, row, f"{status} {knowledge}"))
            if ends or asked == most:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


def ask(connection: http.client.HTTPConnection) -> tuple[int, object, bool]:
    connection.request("POST", "/knowledge", BODY, {"content-type": "application/json"})
    response = connection.getresponse()
    told = json.loads(response.read())
    answer = told["knowledge"] if response.status == 200 else told["detail"]
    return response.status, answer, response.will_close


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{holds} does not hold after {seconds} s"
        time.sleep(0.002)


def stat(pid: int) -> list[str]:
    """Return what the kernel tells of a process, from its state on; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def is_stopped(pid: int) -> bool:
    return not lives(pid) or stat(pid)[0] == "T"


def group(leader: int) -> list[int]:
    """Return the processes of a group that live."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if lives(pid) and stat(pid)[2:3] == [str(leader)]]


def held_ports(port: int, pid: int) -> set[int]:
    """Return the callers' ports of the connections to a port that a process has accepted."""
    sockets = set()
    with suppress(OSError):  # it just ends
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed between the two looks
                sockets.add(str(path.readlink()))
    held = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        own, other = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        if other and own == port and f"socket:[{fields[9]}]" in sockets:
            held.add(other)
    return held


@contextmanager
def exporting(bundle: Path, place: Place) -> Iterator[None]:
    """Export one version again and again, in processes of their own."""
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            export(bundle, "v1", place, "--no-wait", grace_seconds=GRACE_SECONDS)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def strike_at_random(
    place: Place,
    bundle: Path,
    folder: Path,
    moments: int,
    rng: random.Random,
    phases: Sequence[str] = PHASES,
) -> Found:
    """Send so many signals of each kind at the start and in each of these phases."""
    found = Found()
    for name in ("tmp", "mirror"):
        (folder / name).mkdir()
    environment = {
        "TMPDIR": str(folder / "tmp"),
        "GKC_MIRROR_DIR": str(folder / "mirror"),
        "GKC_STORE_TIMEOUT_MS": str(STORE_TIMEOUT_MS),
    }
    export(bundle, "v1", place)

    def live(phase: str, blows: list[Blow]) -> None:
        life = Life(place, environment, found)
        try:
            time.sleep(rng.uniform(0, START_SECONDS))
            life.strike("start", blows[0], rng)
            for before, blow in pairwise(blows):
                # Between two blows to workers there may be none that is ready; whoever asks then
                # waits, and an end would cut him off.
                has_to_wait = before == blows[0] or (before[1] == "worker" and blow in FATAL)
                if has_to_wait or rng.random() < 0.5:
                    life.wait_until_whole()
                time.sleep(rng.uniform(0, PAUSE_SECONDS))
                life.strike(phase, blow, rng)
            life.end()
        finally:
            life.give_up()

    for _ in range(moments):
        for fatal in FATAL:
            live("start", [fatal])
    at_start = [list(SURVIVED) for _ in range(moments)]
    for phase in phases:
        beside = exporting(bundle, place) if phase == "publishing" else nullcontext()
        with beside:
            for moment in range(moments):
                then = rng.sample(SURVIVED, len(SURVIVED))
                for fatal in FATAL:
                    first = at_start[moment].pop()
                    live(phase, [first, then.pop(), then.pop(), fatal])
    scratch = [p.name for p in (*(folder / "mirror").rglob("*.tmp"), *(folder / "tmp").iterdir())]
    found.left["publishing", "SIGKILL worker"] += scratch
    return found


def main(
    *,
    moments: Annotated[int, typer.Option(help="Signals of each kind in each phase.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments and the order of signals.")] = 1,
) -> None:
    """Send the signals, and tell what came of it; exit 1 if anything failed or was left."""
    binary = find_redis_server()
    if binary is None:
        sys.exit("no redis-server on PATH")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "redis").mkdir()
        server = RedisServer(binary, Path(folder, "redis"))
        server.start()
        try:
            bundle = build(Path(folder, "bundle")).path
            place = Place(server.url, "signals")
            found = strike_at_random(place, bundle, Path(folder), moments, random.Random(seed))
        finally:
            server.stop()
    found.print()
    sys.exit(1 if found.faults() else 0)


if __name__ == "__main__":
    typer.run(main)
