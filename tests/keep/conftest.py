"""Tests of pretraining: none without torch, and one thread, since many tests share the cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="pretraining needs the extra 'keep'")
torch.set_num_threads(1)

if TYPE_CHECKING:
    from keep.checkpoint import Pretraining
    from keep.log import Log


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A tiny log, for tests that only read it."""
    from tests.keep.tiny import tiny_log

    return tiny_log(tmp_path_factory.mktemp("log") / "tiny")


@pytest.fixture(scope="session")
def state(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Pretraining:
    """What was learned from that log up to day 3, its last day of pretraining."""
    from keep.recipes.pretrain import pretrain
    from tests.keep.tiny import CONFIG

    return pretrain(log, tmp_path_factory.mktemp("ckpt"), config=CONFIG)


@pytest.fixture(scope="session")
def bundled(state: Pretraining, log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that."""
    from keep.bundle import bundle

    out = tmp_path_factory.mktemp("out") / "tiny-day3"
    bundle(state, log, out)
    return out
