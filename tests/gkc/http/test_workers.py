"""Workers as real processes: begun, watched, replaced, stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import structlog

from gkc.errors import CommandError
from gkc.http.host import WorkerState
from gkc.http.workers import RETIRE, STOPPING, Assignment, Work, WorkerLimits, Workers
from tests.commands import lives

_FOLDER = "GKC_TEST_FOLDER"
_SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where workers leave a file named by their process id."""
    monkeypatch.setenv(_FOLDER, str(tmp_path))
    return tmp_path


def note() -> None:
    Path(os.environ[_FOLDER], str(os.getpid())).touch()


def pids(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def serve_as(assignment: Assignment, state: WorkerState) -> None:
    """Say that it serves, and beat until it is told to leave."""
    signal.signal(RETIRE, lambda *_: sys.exit(0))
    note()  # before it serves, which is announced
    assignment.set_state(state)
    while True:
        assignment.seat.beat()
        time.sleep(0.05)


def serve_well(assignment: Assignment) -> None:
    serve_as(assignment, WorkerState.READY)


def serve_later(assignment: Assignment) -> None:
    """Be ready at once, but as a substitute only when the test says so."""
    if assignment.is_substitute:
        note()
        until(lambda: Path(os.environ[_FOLDER], "go on").exists())
    serve_as(assignment, WorkerState.READY)


def serve_and_leave_later(assignment: Assignment) -> None:
    """Begin to leave at SIGTERM; end, or be ready as a substitute, only when the test says so."""

    def leave(*_: object) -> None:
        assignment.set_state(WorkerState.LEAVING)
        until(lambda: Path(os.environ[_FOLDER], "go on").exists())
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    serve_later(assignment)


def serve_until_interrupted(assignment: Assignment) -> None:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    serve_as(assignment, WorkerState.READY)


def fail_as_a_substitute(assignment: Assignment) -> None:
    if assignment.is_substitute:
        with Path(os.environ[_FOLDER], "failures").open("a", encoding="ascii") as failures:
            failures.write(f"{time.monotonic()}\n")
        sys.exit(5)
    serve_well(assignment)


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
    assignment.seat.beat()
    assignment.set_state(WorkerState.READY)
    note()
    time.sleep(3600)


def fail(_: Assignment) -> None:
    sys.exit(5)


def never_serve(_: Assignment) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note()
    time.sleep(3600)


def stop_the_service(_: Assignment) -> None:
    note()
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(3600)


LIMITS = WorkerLimits(stuck_seconds=30.0, stop_seconds=5.0)


def supervise(work: Work, limits: WorkerLimits, folder: Path, count: int = 2) -> None:
    """Run workers in a process of its own; note what it announces and logs."""

    def announce() -> None:
        with Path(folder, "announced").open("a", encoding="ascii") as noted:
            noted.write("1")

    def log(_logger: object, _name: str, event: Any) -> Any:
        with Path(folder, "log").open("a", encoding="utf-8") as noted:
            noted.write(json.dumps(event) + "\n")
        raise structlog.DropEvent

    structlog.configure(processors=[log])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        try:
            Workers(count, listener, limits).run(work, announce, Path(folder, "cleaned up").touch)
        except CommandError as exc:
            sys.exit(str(exc))


def run(
    work: Work,
    folder: Path,
    steps: Callable[[int], None],
    limits: WorkerLimits = LIMITS,
    status: int = 0,
) -> None:
    """Take these steps, told the supervisor's process, then stop it; nobody is to be left."""
    supervisor = _SPAWN.Process(target=supervise, args=(work, limits, folder))
    supervisor.start()
    assert supervisor.pid is not None
    try:
        steps(supervisor.pid)
        supervisor.terminate()
        supervisor.join(60)
        assert supervisor.exitcode == status
        until(lambda: are_gone(pids(folder)))
    finally:
        supervisor.kill()


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "log").read_text("utf-8").splitlines()]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def are_gone(numbers: set[int]) -> bool:
    return not any(map(lives, numbers))


def test_they_are_announced_once_and_end_with_the_service(folder: Path) -> None:
    run(serve_well, folder, lambda _: until(Path(folder, "announced").exists))
    assert Path(folder, "announced").read_text() == "1"
    assert len(pids(folder)) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_one_that_dies_is_replaced(folder: Path, number: signal.Signals) -> None:
    def steps(_: int) -> None:
        until(lambda: len(pids(folder)) == 2)
        os.kill(min(pids(folder)), number)
        until(lambda: len(pids(folder)) == 3)

    run(serve_well, folder, steps)


def test_one_that_falls_silent_tells_its_stack_and_is_replaced(folder: Path) -> None:
    limits = WorkerLimits(stuck_seconds=0.2, stop_seconds=0.2)
    run(fall_silent, folder, lambda _: until(lambda: len(pids(folder)) >= 4), limits)
    stacks = [entry["stack"] for entry in logged(folder) if entry["event"] == "worker_stuck"]
    assert any("in fall_silent" in stack for stack in stacks)


def test_one_that_cannot_begin_ends_the_service_with_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    supervisor = _SPAWN.Process(target=supervise, args=(fail, LIMITS, folder))
    supervisor.start()
    supervisor.join(60)
    assert supervisor.exitcode == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "ended with status 5 before it served" in line


def test_what_does_not_serve_yet_is_not_waited_for(folder: Path) -> None:
    run(never_serve, folder, lambda _: until(lambda: len(pids(folder)) == 2))
    assert not Path(folder, "announced").exists()


def test_a_hangup_replaces_them_all_one_by_one(folder: Path) -> None:
    def steps(supervisor: int) -> None:
        until(Path(folder, "announced").exists)
        before = pids(folder)
        os.kill(supervisor, signal.SIGHUP)
        until(lambda: are_gone(before))
        assert len(pids(folder)) == 4
        assert len([pid for pid in pids(folder) if not are_gone({pid})]) == 2

    run(serve_well, folder, steps)
    assert Path(folder, "announced").read_text() == "1"


def test_nobody_leaves_before_a_substitute_is_ready(folder: Path) -> None:
    def steps(supervisor: int) -> None:
        until(Path(folder, "announced").exists)
        before = pids(folder)
        os.kill(supervisor, signal.SIGHUP)
        until(lambda: len(pids(folder)) == 3)  # it has started, and is not ready
        time.sleep(0.2)
        assert not any(are_gone({pid}) for pid in before)
        Path(folder, "go on").touch()
        until(lambda: are_gone(before))

    run(serve_later, folder, steps)


def test_those_that_leave_while_they_are_replaced_get_one_substitute_each(folder: Path) -> None:
    def steps(supervisor: int) -> None:
        until(Path(folder, "announced").exists)
        before = pids(folder)
        os.kill(supervisor, signal.SIGHUP)
        until(lambda: len(pids(folder)) == 3)
        for pid in before:
            os.kill(pid, signal.SIGTERM)
        until(lambda: len(pids(folder)) == 4)
        time.sleep(0.2)  # no other one is begun
        Path(folder, "go on").touch()
        until(lambda: are_gone(before))
        assert len(pids(folder)) == 4

    run(serve_and_leave_later, folder, steps)


def test_a_substitute_that_cannot_begin_leaves_those_that_serve(folder: Path) -> None:
    def steps(supervisor: int) -> None:
        until(Path(folder, "announced").exists)
        os.kill(supervisor, signal.SIGHUP)
        until(Path(folder, "log").exists)
        time.sleep(0.2)  # no other one is begun
        assert not any(are_gone({pid}) for pid in pids(folder))

    run(fail_as_a_substitute, folder, steps)
    assert [(e["event"], e["status"]) for e in logged(folder)] == [("worker_failed_to_start", 5)]


def test_one_that_cannot_begin_is_not_begun_again_at_once(folder: Path) -> None:
    failures = folder / "failures"

    def steps(_: int) -> None:
        until(Path(folder, "announced").exists)
        os.kill(min(pids(folder)), signal.SIGKILL)
        until(lambda: failures.exists() and failures.read_text().count("\n") == 2)

    run(fail_as_a_substitute, folder, steps)
    first, second = map(float, failures.read_text().split())
    assert second - first >= 0.5


def test_a_second_signal_ends_the_delay(folder: Path) -> None:
    def steps(supervisor: int) -> None:
        until(Path(folder, "announced").exists)
        os.kill(supervisor, signal.SIGTERM)
        until(Path(folder, "SIGTERM").exists)
        assert not Path(folder, "SIGINT").exists()

    run(leave_when_urged, folder, steps)  # which ends by another SIGTERM
    assert Path(folder, "SIGINT").exists()


def test_a_stop_does_not_wait_for_many_starts(folder: Path) -> None:
    supervisor = _SPAWN.Process(target=supervise, args=(stop_the_service, LIMITS, folder, 200))
    supervisor.start()
    supervisor.join(60)
    assert supervisor.exitcode == 0
    assert 0 < len(pids(folder)) < 100
    assert are_gone(pids(folder))


@pytest.mark.parametrize("work", [serve_until_interrupted, never_serve])
def test_they_end_with_their_parent_and_clean_up_after_it(folder: Path, work: Work) -> None:
    def steps(supervisor: int) -> None:
        until(lambda: len(pids(folder)) == 2)
        os.kill(min(pids(folder)), signal.SIGKILL)  # which cannot say that it goes
        os.kill(supervisor, signal.SIGKILL)
        until(Path(folder, "cleaned up").exists)

    run(work, folder, steps, status=-signal.SIGKILL)
