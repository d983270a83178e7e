"""The model card says what is known of a bundle, and says so where something is not."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from keep.checkpoint import Pretraining
from keep.compatibility import Compatibility
from keep.log import Log, LogInfo
from keep.metrics import Metrics
from keep.metrics_log import DayMetrics
from keep.model_card import commit_of, model_card
from keep.pretraining import start
from tests.keep.tiny import CONFIG, tiny_days

ROWS = {"users": 1234, "items": 30, "user_categories": 5678}
COVERAGE = "coverage of the 200 test impressions (day 5): users 99.50%"
METRICS = [
    DayMetrics(day, "two_tower", "click", Metrics(0.5 + day / 100, 0.61, 0.6, 1.02, 400, 0.25, 30))
    for day in (2, 3, 4, 5)
]


@pytest.fixture(scope="module")
def state() -> Pretraining:
    state = start(tiny_days()[1], CONFIG)
    state.day = 3
    return state


def card(state: Pretraining, info: LogInfo, metrics: list[DayMetrics]) -> str:
    return model_card("tiny-day3", state, info, ROWS, 3.2e-7, COVERAGE, metrics)


def test_says_what_the_bundle_is_and_where_it_comes_from(state: Pretraining, log: Log) -> None:
    info = replace(log.info, citation="Doe 2020", licence="CC BY 4.0")
    text = card(state, info, METRICS)
    assert text.startswith("# tiny-day3\n")
    for words in (
        "**last day learned from (the version's day):** 3\n",
        "click, conversion, cart",
        # [K_u, K_i, K_u * K_i, K_uc] of 3 tasks by 8 numbers
        "user and item vectors 24 each, user-category vectors 24",
        "is 96 wide",
        "1,234 users, 30 items, 5,678 user categories",
        "3.2e-07",
        COVERAGE,
        "| `batch_size` | 64 |",
        "| `tower` | (12, 8) |",
        "**log:** tiny\n",
        "**source:** made up for tests\n",
        "**citation:** Doe 2020\n",
        "**licence:** CC BY 4.0\n",
        f"**SHA-256 of its values:** {log.info.checksum}\n",
        "**days:** 1-3 of 1-5; none after 3",
        "2,000 impressions, 40 users",
        f"torch {torch.__version__}",
    ):
        assert words in text, words


def test_says_in_which_axes_the_vectors_lie(state: Pretraining, log: Log) -> None:
    assert "**in the axes of:** no other version\n" in card(state, log.info, METRICS)
    errors = {"user": 0.126, "item": 0.4}
    older = Compatibility("ckpt", 2, {}, errors, "keep-sha256:0", {})
    text = model_card("tiny", state, log.info, ROWS, 3.2e-7, COVERAGE, METRICS, older)
    assert "axes of:** checkpoint ckpt, day 2 (ridge; error user 0.13, item 0.40)\n" in text


def test_shows_the_metrics_of_the_last_days(state: Pretraining, log: Log) -> None:
    text = card(state, log.info, METRICS)
    assert "| 5 | two_tower | click | 0.5500 | 0.6100 | 0.6000 | 1.0200 | 400 | 0.2500 |" in text
    assert "| 3 | two_tower |" in text
    assert "| 2 | two_tower |" not in text


def test_what_is_not_known_is_said(state: Pretraining, log: Log) -> None:
    text = card(state, log.info, [])
    assert "The checkpoint has no metrics beside it" in text
    assert "**licence:** none named\n" in text
    no_user = replace(METRICS[0].metrics, gauc=math.nan)
    text = card(state, log.info, [replace(METRICS[0], metrics=no_user)])
    assert "| 2 | two_tower | click | - | 0.6100 |" in text


def test_days_with_gaps_are_written_as_spans(state: Pretraining, log: Log) -> None:
    info = replace(log.info, days=(0, 1, 3, 5, 6, 7))
    assert "**days:** 0-1, 3 of 0-1, 3, 5-7;" in card(state, info, [])


def test_the_commit_is_that_of_a_checkout_s_root_only(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    if shutil.which("git") is None:
        return

    def git(*words: str) -> str:
        who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--no-verify", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert commit_of(tmp_path, "--abbrev=40") == head
    (tmp_path / "file").write_text("two")
    assert commit_of(tmp_path, "--abbrev=40") == f"{head}-dirty"
    (tmp_path / "folder").mkdir()
    assert commit_of(tmp_path / "folder") is None
