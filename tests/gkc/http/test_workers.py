"""Workers as real processes: begun, watched, replaced, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gkc.errors import CommandError
from gkc.http import workers
from gkc.http.workers import STOPPING, Beats, Work, Workers

_FOLDER = "GKC_TEST_FOLDER"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where workers leave a file named by their process id."""
    monkeypatch.setenv(_FOLDER, str(tmp_path))
    return tmp_path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (*STOPPING, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def note() -> None:
    Path(os.environ[_FOLDER], str(os.getpid())).touch()


def pids(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir()}


def serve_well(beats: Beats, _: socket.socket) -> None:
    note()
    while True:
        asyncio.run(beats())
        time.sleep(0.05)


def fall_silent(beats: Beats, _: socket.socket) -> None:
    """Beat once, then never again."""
    note()
    asyncio.run(beats())
    time.sleep(3600)


def fail(_: Beats, __: socket.socket) -> None:
    sys.exit(5)


def never_serve(_: Beats, __: socket.socket) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note()
    time.sleep(3600)


def run(work: Work, listener: socket.socket, steps: Callable[[list[int]], None]) -> int:
    """Run two workers while another thread takes these steps, then stop; count announcements."""
    said: list[int] = []
    told: list[BaseException] = []

    def drive() -> None:
        try:
            steps(said)
        except BaseException as exc:  # noqa: BLE001 - raised again below
            told.append(exc)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    supervisor = Workers(2, listener)
    thread = threading.Thread(target=drive)
    thread.start()
    supervisor.run(work, lambda: said.append(1))
    thread.join()
    if told:
        raise told[0]
    return len(said)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def are_gone(numbers: set[int]) -> bool:
    return not any(Path(f"/proc/{number}").exists() for number in numbers)


def test_they_are_announced_once_and_end_with_the_service(
    folder: Path, listener: socket.socket
) -> None:
    assert run(serve_well, listener, lambda said: until(lambda: bool(said))) == 1
    assert len(pids(folder)) == 2
    assert are_gone(pids(folder))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_one_that_dies_is_replaced(
    folder: Path, listener: socket.socket, number: signal.Signals
) -> None:
    def steps(_: list[int]) -> None:
        until(lambda: len(pids(folder)) == 2)
        os.kill(min(pids(folder)), number)
        until(lambda: len(pids(folder)) == 3)

    run(serve_well, listener, steps)
    assert are_gone(pids(folder))


def test_one_that_falls_silent_is_replaced(
    folder: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_STUCK_SECONDS", 0.5)
    run(fall_silent, listener, lambda _: until(lambda: len(pids(folder)) >= 4))
    assert are_gone(pids(folder))


def test_one_that_cannot_begin_ends_the_service_with_one_line(listener: socket.socket) -> None:
    with pytest.raises(CommandError, match="ended with status 5 before it served"):
        Workers(2, listener).run(fail, lambda: None)


def test_what_does_not_serve_yet_is_not_waited_for(folder: Path, listener: socket.socket) -> None:
    assert run(never_serve, listener, lambda _: until(lambda: len(pids(folder)) == 2)) == 0
    assert are_gone(pids(folder))


def test_a_hangup_replaces_them_all_one_by_one(folder: Path, listener: socket.socket) -> None:
    def steps(said: list[int]) -> None:
        until(lambda: bool(said))
        before = pids(folder)
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: are_gone(before))
        assert len(pids(folder)) == 4
        assert len([pid for pid in pids(folder) if not are_gone({pid})]) == 2

    assert run(serve_well, listener, steps) == 1
    assert are_gone(pids(folder))
