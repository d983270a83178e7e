"""Runs that take too long, or that nobody waits for any more, end; what never ends is told."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from exporter import sessions
from exporter.bundle import load_bundle
from exporter.errors import BundleError
from exporter.sessions import InferenceError, Sessions, are_stuck
from tests.exporter.bundles import build, make_endless

ROWS: dict[str, Any] = {"item_id": np.arange(2), "price": np.zeros((2, 1), np.float32)}


@pytest.fixture
def endless(tmp_path: Path) -> ort.InferenceSession:
    built = build(tmp_path / "bundle")
    make_endless(built.path / "item.onnx")
    with Sessions() as loading:
        return loading.load(load_bundle(built.path), "item.onnx")


def test_a_run_that_takes_too_long_ends_and_so_do_all_others(endless: ort.InferenceSession) -> None:
    with Sessions(1, most_seconds=0.1) as running:
        run = running.submit(running.run, endless, "knowledge", ROWS)
        with pytest.raises(InferenceError, match=r"longer than 0\.1 seconds for one batch"):
            running.result(run)
        with pytest.raises(InferenceError, match="longer than"):
            running.result(running.submit(int))
    assert run.done()
    assert not are_stuck()


def test_a_run_ends_with_the_block_that_waits_for_it(endless: ort.InferenceSession) -> None:
    def fail(running: Sessions) -> None:
        with running.ended_by_errors():
            running.submit(running.run, endless, "knowledge", ROWS)
            raise KeyboardInterrupt

    with Sessions(1) as running, pytest.raises(KeyboardInterrupt):
        fail(running)
    assert not are_stuck()


def test_a_node_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    class Endless:
        """A session of onnxruntime's whose one node does not end."""

        def run(self, *_: object) -> list[bool]:
            return [is_over.wait()]

    monkeypatch.setattr(sessions, "_PATIENCE_SECONDS", 0.05)
    with Sessions(1, most_seconds=0.1) as running:
        run = running.submit(running.run, Endless(), "knowledge", ROWS)
        with pytest.raises(InferenceError, match="longer than"):
            running.result(run)
    assert are_stuck()
    is_over.set()
    assert run.result() is True


def test_a_model_that_never_loads_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(sessions, "_load", lambda *_: is_over.wait())
    monkeypatch.setattr(sessions, "_PATIENCE_SECONDS", 0.05)
    bundle = load_bundle(build(tmp_path / "bundle").path)
    what = r"item\.onnx: took longer than 0\.1 seconds to load, and may never end"
    with Sessions(1, most_seconds=0.01) as loading, pytest.raises(BundleError, match=what):
        loading.load(bundle, "item.onnx")
    assert are_stuck()
    is_over.set()


def test_the_command_ends_whatever_its_threads_are_at() -> None:
    script = (
        "import sys, threading; from exporter.cli import main\n"
        "threading.Thread(target=threading.Event().wait, name='inference_0').start()\n"
        "sys.argv = ['gkc-export', '--version', 'v1', '--bundle', 'nowhere']; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "nowhere: is not there" in ended.stderr
