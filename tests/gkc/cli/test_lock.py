"""``gkc lock --joined``: what joined rows came from, checked against what is served."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.commands import Place
from tests.gkc.cli.in_process import done, gkc
from tests.gkc.offline.tables import draw, publish, write


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"file:{tmp_path / 'store'}", "default")


def test_joined_rows_are_locked(place: Place, tmp_path: Path) -> None:
    publish(place.url, "v1")
    write(draw(5), tmp_path / "in" / "a")
    done("join", "--version", "v1", tmp_path / "in", tmp_path / "out", place=place)
    lock = tmp_path / "model.gkc-lock"
    assert "v1 is locked to run-7" in done(
        "lock", "--joined", tmp_path / "out", "-o", lock, place=place
    )
    assert "serves what was locked: v1" in done("check", lock, place=place)
    publish(place.url, "v1", space="run-8")
    result = gkc("check", lock, place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "run-8" in result.stderr


def test_a_pipe_is_not_waited_for(place: Place, tmp_path: Path) -> None:
    publish(place.url, "v1")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    joined = gkc("lock", "--joined", pipe, "-o", tmp_path / "lock", place=place)
    written = gkc("lock", "--version", "v1", "-o", pipe, place=place)
    checked = gkc("check", pipe, place=place)
    assert joined.stderr == f"gkc: {pipe}: is no regular file\n"
    assert written.stderr == f"gkc: {pipe} is there, and is no lock; name another place\n"
    assert checked.stderr == f"gkc: lock {pipe} is no regular file\n"


def test_rows_that_were_not_joined(place: Place, tmp_path: Path) -> None:
    path = write(draw(5), tmp_path / "in")
    result = gkc("lock", "--joined", path, "-o", tmp_path / "lock", place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "tells of no generation; gkc join writes files that do" in result.stderr
    assert "a file written anew by another tool loses it: lock before" in result.stderr
    asked = ("lock", "--joined", path, "--store", place.url, "-o", tmp_path / "lock")
    assert gkc(*asked, place=place).returncode == 2
