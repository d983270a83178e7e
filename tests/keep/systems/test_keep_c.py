"""KEEP-C: co-training without a label in its own knowledge."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gkc.arrays import I64
from keep.config import TASKS, PretrainConfig
from keep.data import Data, Samples
from keep.din import Teacher
from keep.features import Batch, Features, Rows, trained_by
from keep.losses import point_loss
from keep.systems import base, keep_c
from keep.systems.conet import CONET
from keep.systems.keep_c import (
    KEEP_C,
    Options,
    RunningMoments,
    batches,
    draw_earlier_partners,
)
from tests.keep.systems.narrow import NARROW, tiny_data
from tests.keep.tiny import CONFIG

OPTIONS = Options(**NARROW, plug_in_hidden=8, extraction_batch_size=64)
ONE_STEP = dataclasses.replace(OPTIONS, extraction_batch_size=1000)
"""The whole day in one step of the extraction module."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return tiny_data(tmp_path_factory.mktemp("log"))


def fed(
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
    config: PretrainConfig = CONFIG,
    options: Options = OPTIONS,
) -> list[Tensor]:
    """Train on day 4 and collect the knowledge that was read while training, step by step."""
    rows: list[Tensor] = []

    def spy(teacher: Teacher, samples: Samples, positions: I64) -> Tensor:
        found = read(teacher, samples, positions)
        rows.append(found[np.argsort(positions)])
        return found

    read = keep_c.read
    monkeypatch.setattr(keep_c, "read", spy)
    KEEP_C.train(data, (4,), options, 1, side_input=config)
    monkeypatch.undo()
    return rows


def test_no_label_is_in_the_knowledge_it_is_trained_with(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flipped = tiny_data(tmp_path, flip_from=4)
    [straight], [turned] = (fed(given, monkeypatch, options=ONE_STEP) for given in (data, flipped))
    assert len(straight) == data.sub_domain(4).day.sub_domain.sum()
    assert torch.equal(straight, turned)


def last_step(data: Data, config: PretrainConfig) -> I64:
    """Find the rows of day 4 that are learned last."""
    steps: list[I64] = []

    def kept(
        rows: Rows, features: Features, config: PretrainConfig, rng: np.random.Generator
    ) -> Iterator[Batch]:
        for batch in batches(rows, features, config, rng):
            steps.append(batch.samples)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keep_c, "batches", kept)
        KEEP_C.train(data, (4,), OPTIONS, 1, side_input=config)
    return steps[-1]


@pytest.mark.parametrize("task", range(len(TASKS)), ids=TASKS)
@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("pairs", ["day", "batch"])
def test_labels_of_the_last_step_are_in_no_knowledge_that_was_fed(
    data: Data, monkeypatch: pytest.MonkeyPatch, pairs: str, label: bool, task: int
) -> None:
    config = dataclasses.replace(CONFIG, pairs=pairs, pair_weight=1.0)
    last = last_step(data, config)
    straight = fed(data, monkeypatch, config)

    def changed(number: int) -> Samples:
        samples = super_domain(number)
        labels = samples.rows.labels.copy()
        labels[last, task] = label  # one label for all: their number changes, too
        return dataclasses.replace(samples, rows=dataclasses.replace(samples.rows, labels=labels))

    super_domain = data.super_domain
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "super_domain", changed)
        found = fed(data, monkeypatch, config)
    assert len(found) == len(straight) > 1
    for one, other in zip(straight, found, strict=True):
        assert torch.equal(one, other)


def test_partners_are_of_the_same_user_another_label_and_no_later_step(data: Data) -> None:
    rows, step = data.super_domain(4).rows, 64
    order = np.random.default_rng(2).permutation(len(rows))
    partners = draw_earlier_partners(rows, order, step, np.random.default_rng(3))
    for task in range(len(TASKS)):
        sampled = trained_by(rows, task)
        for turn in range(0, len(rows), 7):
            row, end = order[turn], (turn // step + 1) * step
            allowed = {
                int(other)
                for other in order[:end]
                if sampled[row]
                and sampled[other]
                and rows.user[other] == rows.user[row]
                and rows.labels[other, task] != rows.labels[row, task]
            }
            drawn = int(partners[turn, task])
            assert drawn in allowed if allowed else drawn == -1
    assert (partners >= 0).any(axis=0).all()


def test_what_was_learned_is_in_the_knowledge_it_is_tested_with(data: Data, tmp_path: Path) -> None:
    flipped = tiny_data(tmp_path, flip_from=4)
    test = data.sub_domain(5)
    one, other = (
        KEEP_C.train(given, (4,), OPTIONS, 1, side_input=CONFIG).knowledge(test)
        for given in (data, flipped)
    )
    assert one.shape == (len(test), CONFIG.user_dim + CONFIG.item_dim + 3 * CONFIG.mlp[-1])
    assert not np.array_equal(one, other)


def test_every_label_of_the_test_day_turned_round_changes_no_score(
    data: Data, tmp_path: Path
) -> None:
    flipped = tiny_data(tmp_path, flip_from=5)
    scores = [
        KEEP_C.train(given, (3, 4), OPTIONS, 1, side_input=CONFIG).score(given.sub_domain(5))
        for given in (data, flipped)
    ]
    assert np.array_equal(scores[0], scores[1])


def test_each_row_is_learned_once_in_steps_of_base_s_size(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(logits: Tensor, labels: Tensor) -> Tensor:
        sizes.append(len(labels))
        return point_loss(logits, labels)

    monkeypatch.setattr(keep_c, "point_loss", counted)
    KEEP_C.train(data, (3, 4), OPTIONS, 1, side_input=CONFIG)
    days = [len(data.sub_domain(day)) for day in (3, 4)]
    full, rest = OPTIONS.batch_size, [count % OPTIONS.batch_size for count in days]
    assert sum(sizes) == sum(days)
    assert sorted(sizes) == sorted([full] * (len(sizes) - 2) + rest)


def test_running_moments_are_those_of_all_rows() -> None:
    rows = torch.randn(50, 3) * 4 + 2
    moments = RunningMoments(3)
    for part in (rows[:1], rows[1:31], rows[31:]):
        moments.add(part)
    torch.testing.assert_close(moments.mean, rows.mean(dim=0))
    torch.testing.assert_close(moments.std, rows.std(dim=0, correction=0))


def test_the_extraction_module_has_steps_and_a_rate_of_its_own(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        len(
            fed(data, monkeypatch, options=dataclasses.replace(OPTIONS, extraction_batch_size=size))
        )
        for size in (50, 200)
    ]
    assert steps == [8, 2]
    still = dataclasses.replace(OPTIONS, extraction_learning_rate=0.0)
    test = data.sub_domain(5)
    short, long = (
        KEEP_C.train(data, days, still, 1, side_input=CONFIG).knowledge(test)
        for days in ((4,), (3, 4))
    )
    assert np.array_equal(short, long)


def test_its_grid_has_twelve_with_what_conet_gets_for_the_extraction_module() -> None:
    grid = KEEP_C.grid(base.Options())
    assert len(set(grid)) == 12
    extraction = {(tried.extraction_batch_size, tried.extraction_learning_rate) for tried in grid}
    assert extraction == {
        (tried.batch_size, tried.learning_rate) for tried in CONET.grid(base.Options())
    }
