from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from keep.log import Log, open_log
from keep.log_summary import describe, describe_history, history_facts, summarise
from keep.log_writer import LogWriter
from tests.keep.logs import INFO, SCENES


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Three days; on the test day user 1 has both classes, user 2 clicks only, user 3 none."""
    days = {
        1: ([1, 1, 2], [10, 10, 20], [0, 1, 0], [1, 0, 1]),
        2: ([1, 2], [30, 40], [1, 1], [1, 0]),
        4: ([1, 1, 2, 3, 3], [5, 60, 70, 80, 80], [1, 1, 1, 1, 0], [1, 0, 1, 0, 1]),
    }
    info = dataclasses.replace(INFO, licence="no limits", citation="Nobody 2026")
    with LogWriter(tmp_path / "log", info) as writer:
        for day, (user, time, scene, click) in days.items():
            count = len(user)
            columns = {name: np.ones(count, np.int64) for name in ("item", "shop", "category")}
            columns |= {"user": np.array(user), "time": np.array(time), "scene": np.array(scene)}
            columns["click"] = np.array(click, dtype=np.bool_)
            columns["cart"] = columns["conversion"] = np.zeros(count, dtype=np.bool_)
            writer.write(day, columns, SCENES)
    return open_log(tmp_path / "log")


def test_rows_of_the_downstream_task_are_counted(log: Log) -> None:
    facts = summarise(log)
    assert facts.sub_domain_rows == 7
    assert (facts.train_rows, facts.train_clicks) == (2, 1)
    assert (facts.test_rows, facts.test_clicks) == (4, 2)


def test_users_that_gauc_leaves_out_are_counted(log: Log) -> None:
    facts = summarise(log)
    assert facts.test_users == 3
    assert facts.users_without_both == 2
    assert facts.rows_without_both == 2


def test_ties_and_calendar_overlap_are_measured(log: Log) -> None:
    facts = history_facts(log)
    assert facts.shared_second == 4  # user 1 at 10, user 3 at 80
    assert facts.median_seconds == 50.0  # 55, 50 and 0 seconds
    assert facts.pretrain_span == (10, 20)
    assert facts.test_span == (5, 80)
    assert facts.test_before_pretrain_end == pytest.approx(1 / 5)
    assert facts.pretrain_after_test_median == 0.0


def test_the_description_says_how_the_log_was_made(log: Log) -> None:
    text = describe(log)
    assert "source: made by a test" in text
    assert "licence: no limits" in text
    assert "cite: Nobody 2026" in text
    assert "test, sub-domain, day 4: 4 rows, click rate 50.0%" in text
    assert "GAUC leaves out 2 of 3 test users" in text
    assert "1970-01-01" in describe_history(log)
