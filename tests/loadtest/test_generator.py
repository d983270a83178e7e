from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest import generator
from loadtest.generator import generate
from loadtest.plan import SAFETENSORS, Answer, Outcome, Plan, Question, read_plan, write_outcome

PLAN = Plan(4, 10.0, 40.0, 1.0, {"20211220": 64}, is_complete=True)
QUESTIONS = [Question(SAFETENSORS, {"u": 1, "i": [2, 3], "v": "20211220", "dtype": "f16"})]
CORES = os.sched_getaffinity(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "results"
    place.mkdir()
    return place


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Put a shell script in the place of the program that an environment of its own holds."""
    program = tmp_path / "locust"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(generator, "separate_environment", lambda _: tmp_path)


def test_a_plan_goes_in_and_what_was_found_comes_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    found = Outcome([Answer(2.0, 2, SAFETENSORS, 0.1, 2.5, "", 1)], 0.15)
    write_outcome(found, tmp_path)
    copy = f'cp {tmp_path}/outcome.json "$LOADTEST_FOLDER"'
    pretend(monkeypatch, tmp_path, f'echo "$@"; {copy}')
    assert generate(PLAN, QUESTIONS, "http://127.0.0.1:1", folder, CORES) == found
    assert read_plan(folder) == (PLAN, QUESTIONS)
    asked = (folder / "locust.log").read_text()
    assert "--headless" in asked
    assert "--host http://127.0.0.1:1" in asked
    assert "--users 4 --spawn-rate 4 --run-time 10s" in asked


def test_a_generator_that_fails_is_told_of_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    pretend(monkeypatch, tmp_path, "echo no such option >&2; exit 3")
    with pytest.raises(SystemExit, match="Locust failed with status 3:\nno such option"):
        generate(PLAN, QUESTIONS, "http://127.0.0.1:1", folder, CORES)
