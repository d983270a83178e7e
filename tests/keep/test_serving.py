"""Knowledge through the real exporter and service equals the offline vectors, to the bit in f16."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from keep.checkpoint import Pretraining
from keep.knowledge import student_knowledge
from keep.log import Log
from keep.serving import SETPRIV, CommandFailedError, run_quietly, served_knowledge, serving
from keep.to_onnx import bundled_models
from tests.commands import http_once


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 2e-6), ("f16", 2e-3), ("int8", 3e-2)])
def test_rows_as_served_are_nearly_what_torch_computes(
    bundled: Path, state: Pretraining, log: Log, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    day = log.day(5)  # has users and items that the version does not know
    ids = (day.user, day.item, day.category)
    with served_knowledge(bundled, tmp_path, dtype) as knowledge:
        rows = knowledge(*ids)
    offline = student_knowledge(state, *ids, as_stored=dtype == "f16")
    scale = np.abs(offline).max()
    np.testing.assert_allclose(rows, offline, atol=tolerance * scale)


def test_rows_as_served_are_those_of_the_bundles_models_rounded_to_the_bit(
    bundled: Path, state: Pretraining, log: Log, tmp_path: Path
) -> None:
    day = log.day(5)  # has users and items that the version does not know
    ids = (day.user, day.item, day.category)
    with served_knowledge(bundled, tmp_path) as knowledge:
        rows = knowledge(*ids)
    offline = student_knowledge(state, *ids, as_stored=True, models=bundled_models(bundled))
    np.testing.assert_array_equal(rows, offline)


def test_a_failed_export_says_what_it_said(bundled: Path, tmp_path: Path) -> None:
    words = ["gkc-export", "--version", "v", "--bundle", tmp_path, "--store", f"file:{tmp_path}/s"]
    with pytest.raises(
        CommandFailedError, match=r"gkc-export: exited 1; it said:\n.*manifest\.json"
    ):
        run_quietly(words, os.environ)


def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(CommandFailedError, match=r"gkc serve: exited 1; it said:\n.*nonsense"),
        serving("nonsense", os.environ, tmp_path / "serve.log"),
    ):
        pass


def test_a_service_ends_with_the_block(bundled: Path, tmp_path: Path) -> None:
    with served_knowledge(bundled, tmp_path) as knowledge:
        assert answers(knowledge.url)
    assert not answers(knowledge.url)


@pytest.mark.skipif(SETPRIV is None, reason="needs util-linux' setpriv")
def test_a_service_ends_with_a_killed_parent(bundled: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from keep.serving import *\n"
        "with served_knowledge(Path(sys.argv[1]), Path(sys.argv[2])) as knowledge:\n"
        "    print(knowledge.url, flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", program, str(bundled), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert answers(url)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not answers(url)


def answers(url: str) -> bool:
    """Tell whether a service listens there."""
    try:
        return http_once.get(f"{url}/livez", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
