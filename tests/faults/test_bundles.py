"""Bundles and disks from elsewhere: refused within bounds, ended when told, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import in_process
from tests.commands import BIN, Place
from tests.exporter.bundles import Built, Recipe, build, make_endless

FEW_KIBIBYTES = 40
"""More than a catalogue takes, and less than the tables of `large`."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"file:{tmp_path / 'store'}", "default")


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build(tmp_path / "bundle")


@contextmanager
def exporting(built: Built, place: Place, phase: str) -> Iterator[subprocess.Popen[str]]:
    """Start an export, and go on once its log tells of a phase."""
    args = ["gkc-export", "--version", "v1", "--bundle", str(built.path)]
    process = subprocess.Popen(
        [str(BIN / args[0]), *args[1:]],
        env={**os.environ, **place.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if f'"phase": "{phase}"' in line or f'"phase":"{phase}"' in line:
                break
        else:
            raise AssertionError(f"no phase {phase} in the log")
        yield process
    finally:
        process.kill()
        process.communicate()


def tables(place: Place) -> list[Path]:
    return sorted(Path(place.url.removeprefix("file:")).rglob("*.gkt"))


@pytest.mark.parametrize(
    ("kind", "number"), [("item", signal.SIGTERM), ("user_category", signal.SIGINT)]
)
def test_an_endless_model_is_ended_by_signals(
    kind: str, number: signal.Signals, built: Built, place: Place
) -> None:
    make_endless(built.path / f"{kind}.onnx")
    with exporting(built, place, "write") as process:
        process.send_signal(number)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert log.splitlines()[-1].startswith("gkc-export: interrupted; version 'v1' was not publi")
    assert json.loads(in_process.done("gkc", "versions", "--json", place=place))["versions"] == []


def refused_on_a_small_disk(built: Built, place: Place, kibibytes: int) -> str:
    """Export with files of so many KiB at most, as a disk without room refuses more."""
    limited = f'ulimit -f {kibibytes}; exec "$0" --version big --bundle "$1"'
    ended = subprocess.run(
        ["bash", "-c", limited, BIN / "gkc-export", built.path],
        env={**os.environ, **place.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    return ended.stderr.splitlines()[-1]


def test_a_full_disk_is_left_as_it_was(built: Built, place: Place, tmp_path: Path) -> None:
    in_process.export(built.path, "v1", place)
    before = tables(place)
    large = build(tmp_path / "large", Recipe(dim=4096))
    told = refused_on_a_small_disk(large, place, FEW_KIBIBYTES)
    assert "File too large; make room there" in told
    assert tables(place) == before
    in_process.export(built.path, "v2", place)
    in_process.export(large.path, "big", place)


def test_an_interrupted_export_is_swept_before_room_is_needed(
    built: Built, place: Place, tmp_path: Path
) -> None:
    make_endless(built.path / "user.onnx")
    with exporting(built, place, "write") as process:
        process.kill()
        process.wait()
    assert tables(place)
    refused_on_a_small_disk(build(tmp_path / "large", Recipe(dim=4096)), place, FEW_KIBIBYTES)
    assert not tables(place)


def test_a_disk_without_a_free_byte_is_told_to_delete(tmp_path: Path) -> None:
    alone = ["unshare", "--map-root-user", "--mount"]  # so that the disk goes with the process
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("this process may not mount a disk")
    on_full_disk: list[str | Path] = [
        *alone,
        sys.executable,
        "-m",
        "tests.faults.on_full_disk",
        tmp_path,
    ]
    subprocess.run(on_full_disk, check=True, timeout=60)
