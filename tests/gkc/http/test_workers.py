"""Workers as real processes: begun, watched, replaced, stopped."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
import structlog

from gkc.errors import CommandError
from gkc.http.host import WorkerState
from gkc.http.workers import RETIRE, STOPPING, Assignment, Work, WorkerLimits, Workers

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
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def serve_as(assignment: Assignment, state: WorkerState) -> None:
    """Say that it serves, and beat until it is told to leave."""
    signal.signal(RETIRE, lambda *_: sys.exit(0))
    assignment.seat.state = state
    note()
    while True:
        assignment.beat()
        time.sleep(0.05)


def serve_well(assignment: Assignment) -> None:
    serve_as(assignment, WorkerState.READY)


def serve_later(assignment: Assignment) -> None:
    """Be ready at once, but as a substitute only when the test says so."""
    if assignment.is_substitute:
        note()
        until(lambda: Path(os.environ[_FOLDER], "go on").exists())
    serve_as(assignment, WorkerState.READY)


def leave_when_urged(assignment: Assignment) -> None:
    """Note what it is told; only SIGINT ends it."""

    def hear(number: int, _: FrameType | None) -> None:
        Path(os.environ[_FOLDER], signal.Signals(number).name).touch()
        if number == signal.SIGINT:
            sys.exit(0)

    for number in STOPPING:
        signal.signal(number, hear)
    serve_as(assignment, WorkerState.READY)


def fall_silent(assignment: Assignment) -> None:
    """Beat once, then never again."""
    assignment.seat.state = WorkerState.READY
    note()
    assignment.beat()
    time.sleep(3600)


def fail(_: Assignment) -> None:
    sys.exit(5)


def never_serve(_: Assignment) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note()
    time.sleep(3600)


def run(
    work: Work,
    listener: socket.socket,
    steps: Callable[[list[int]], None],
    limits: WorkerLimits = WorkerLimits(stuck_seconds=30.0, stop_seconds=5.0),  # noqa: B008 - it is frozen
) -> int:
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

    supervisor = Workers(2, listener, limits)
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


def test_one_that_falls_silent_tells_its_stack_and_is_replaced(
    folder: Path, listener: socket.socket
) -> None:
    with structlog.testing.capture_logs() as logged:
        limits = WorkerLimits(stuck_seconds=0.2, stop_seconds=0.2)
        run(fall_silent, listener, lambda _: until(lambda: len(pids(folder)) >= 4), limits)
    assert are_gone(pids(folder))
    stacks = [entry["stack"] for entry in logged if entry["event"] == "worker_stuck"]
    assert any("in fall_silent" in stack for stack in stacks)


def test_one_that_cannot_begin_ends_the_service_with_one_line(listener: socket.socket) -> None:
    with pytest.raises(CommandError, match="ended with status 5 before it served"):
        Workers(2, listener, WorkerLimits(30.0, 5.0)).run(fail, lambda: None)


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


def test_nobody_leaves_before_a_substitute_is_ready(folder: Path, listener: socket.socket) -> None:
    def steps(said: list[int]) -> None:
        until(lambda: bool(said))
        before = pids(folder)
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: len(pids(folder)) == 3)  # it has started, and is not ready
        time.sleep(0.2)
        assert not any(are_gone({pid}) for pid in before)
        Path(folder, "go on").touch()
        until(lambda: are_gone(before))

    run(serve_later, listener, steps)


def test_a_second_signal_ends_the_delay(folder: Path, listener: socket.socket) -> None:
    def steps(said: list[int]) -> None:
        until(lambda: bool(said))
        os.kill(os.getpid(), signal.SIGTERM)
        until(Path(folder, "SIGTERM").exists)
        assert not Path(folder, "SIGINT").exists()
        assert listener.fileno() == -1

    run(leave_when_urged, listener, steps)  # which ends by another SIGTERM
    assert Path(folder, "SIGINT").exists()
    assert are_gone(pids(folder))
