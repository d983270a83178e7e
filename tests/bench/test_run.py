"""Everything that is named is run, the page is written of what there is, and a failure is told."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest

from bench import run
from bench.run import MEASUREMENTS

Commands = list[list[str]]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Commands]]:
    """Return what runs `main` without running its commands; those named fail."""

    def main(*arguments: str, failing: str = "") -> tuple[int, Commands]:
        commands: Commands = []

        def note(command: list[str], *, check: bool) -> CompletedProcess[str]:
            commands.append(command[1:])
            return CompletedProcess(command, int(command[2] == f"bench.{failing}"))

        monkeypatch.setattr(run, "subprocess", SimpleNamespace(run=note))
        monkeypatch.setattr("sys.argv", ["bench.run", *arguments])
        return run.main(), commands

    return main


def test_everything_is_run_and_saved_before_the_page(
    running: Callable[..., tuple[int, Commands]],
) -> None:
    status, commands = running()
    assert status == 0
    assert commands == [
        *(["-m", f"bench.{name}", "--save"] for name in MEASUREMENTS),
        ["-m", "bench.performance"],
    ]


def test_a_failure_is_told_and_the_others_are_run(
    running: Callable[..., tuple[int, Commands]], capsys: pytest.CaptureFixture[str]
) -> None:
    status, commands = running("throughput", "latency", failing="throughput")
    assert status == 1
    assert [command[1] for command in commands] == [
        "bench.throughput",
        "bench.latency",
        "bench.performance",
    ]
    assert capsys.readouterr().err == "failed: throughput\n"


def test_a_page_that_cannot_be_written_is_a_failure(
    running: Callable[..., tuple[int, Commands]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert running("latency", failing="performance")[0] == 1
    assert capsys.readouterr().err == "failed: performance\n"


def test_nothing_is_run_where_a_name_is_unknown(
    running: Callable[..., tuple[int, Commands]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        running("latency", "colonels")
    assert ended.value.code == 2
    assert "no measurement is named colonels" in capsys.readouterr().err


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_what_a_measurement_keeps_is_found_by_the_page(name: str) -> None:
    module = import_module(f"bench.{name}")
    assert "save" in inspect.signature(module.main).parameters
    sources = Path(run.__file__).parent.glob(f"{name}*.py")
    assert any(f'"bench.{name}"' in file.read_text(encoding="utf-8") for file in sources)
