from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bench.training import LOG, write_data
from bench.training_ours import Ours
from bench.training_task import Task, log_loss, peer_file

TINY_LOG = dataclasses.replace(
    LOG, users=30, items=40, categories=5, shops=6, impressions_per_day=600, days=4
)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    task = Task(
        str(tmp_path),
        behaviours=5,
        mlp=(8, 4),
        batch_size=64,
        samples=512,
        held_out=88,
        threads=1,
    )
    write_data(task, TINY_LOG)
    return task


def test_both_sides_start_from_the_same_impressions(task: Task) -> None:
    ours = Ours(task)
    rows = ours.features.encode(ours.day)
    peer = np.load(peer_file(task))
    assert len(rows) == task.samples + task.held_out
    for name, column in (("user", rows.user), ("item", rows.item[:, 0]), ("shop", rows.item[:, 1])):
        np.testing.assert_array_equal(peer[name], column)
    np.testing.assert_array_equal(peer["label"], rows.labels[:, 0])
    lengths = set()
    for k in range(len(rows)):
        behaviours = ours.features.history[rows.user[k]]
        there = behaviours[behaviours != 0]
        padded = np.pad(there, (0, task.behaviours - len(there)))
        np.testing.assert_array_equal(peer["hist_item"][k], padded)
        np.testing.assert_array_equal(peer["hist_shop"][k], ours.features.item_shop[padded])
        np.testing.assert_array_equal(peer["hist_category"][k], ours.features.item_category[padded])
        assert peer["seq_length"][k] == len(there)
        lengths.add(len(there))
    assert len(lengths) > 1
    assert max(lengths) == task.behaviours


def test_ours_trains_every_weight_that_it_counts_and_no_other(task: Task) -> None:
    side = Ours(task)
    side.fit(task.batch_size)
    trained = [weights for weights in side.model.parameters() if weights.grad is not None]
    assert sum(weights.numel() for weights in trained) == side.parameters


def test_ours_learns_what_it_fits(task: Task) -> None:
    side = Ours(dataclasses.replace(task, learning_rate=0.01))
    before = log_loss(*side.held_out())
    training_loss = side.fit(task.samples)
    labels, probabilities = side.held_out()
    assert len(labels) == task.held_out
    assert training_loss < before
    assert log_loss(labels, probabilities) < before


def test_log_loss_is_the_mean_cross_entropy() -> None:
    labels, probabilities = np.array([1, 0, 1], dtype=np.float32), np.array([0.9, 0.2, 0.5])
    expected = -(np.log(0.9) + np.log(0.8) + np.log(0.5)) / 3
    assert log_loss(labels, probabilities) == pytest.approx(expected)
