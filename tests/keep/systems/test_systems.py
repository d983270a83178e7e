"""What every compared system promises: its grid, its chance, and that the test day teaches none."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from keep.data import Data
from keep.gauc import gauc
from keep.systems import base, conet, darec, sample_merging
from tests.keep.systems.narrow import NARROW, OPTIONS, plain_data, tiny_data

MERGING = (sample_merging, conet, darec)
"""Systems that learn from all scenes."""
systems = pytest.mark.parametrize("system", [base, *MERGING])


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return tiny_data(tmp_path)


@systems
def test_every_label_of_the_test_day_turned_round_changes_no_score(
    system: ModuleType, tmp_path: Path, data: Data
) -> None:
    flipped = tiny_data(tmp_path, flip_from=5)
    assert not np.array_equal(flipped.sub_domain(5).day.click, data.sub_domain(5).day.click)
    scores = [
        system.train(given, (3, 4), system.Options(**NARROW), seed=1).score(given.sub_domain(5))
        for given in (data, flipped)
    ]
    assert np.array_equal(scores[0], scores[1])


@systems
def test_labels_of_the_training_days_do_change_them(
    system: ModuleType, tmp_path: Path, data: Data
) -> None:
    flipped = tiny_data(tmp_path, flip_from=4)
    scores = [
        system.train(given, (4,), system.Options(**NARROW), seed=1).score(data.sub_domain(5))
        for given in (data, flipped)
    ]
    assert not np.array_equal(scores[0], scores[1])


@systems
def test_the_seed_fixes_the_scores(system: ModuleType, data: Data) -> None:
    samples = data.sub_domain(5)
    first, again, other = (
        system.train(data, (4,), system.Options(**NARROW), seed).score(samples)
        for seed in (1, 1, 2)
    )
    assert first.shape == (len(samples),)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@systems
def test_conversion_is_learned_from_clicks(system: ModuleType, data: Data) -> None:
    options = system.Options(**{**NARROW, "batch_size": 8})
    ranker = system.train(data, (1, 2, 3, 4), options, seed=1, task=1)
    scores = ranker.score(data.sub_domain(5).of_task(1))
    assert (1 / (1 + np.exp(-scores))).mean() == pytest.approx(0.3, abs=0.08)  # half that, of all


@systems
def test_it_learns_taste(system: ModuleType, tmp_path: Path) -> None:
    data = plain_data(tmp_path)
    samples = data.sub_domain(5)
    options = system.Options(**{**NARROW, "batch_size": 16})
    scores = system.train(data, (1, 2, 3, 4), options, seed=1).score(samples)
    assert gauc(samples.day.user, samples.day.click, scores).value > 0.7


@pytest.mark.parametrize("system", MERGING)
def test_grid_has_twelve_options_that_keep_base_s_other_settings(system: ModuleType) -> None:
    options = system.grid(OPTIONS)
    assert len(set(options)) == 12
    assert len({(option.batch_size, option.learning_rate) for option in options}) == 4
    for option in options:
        assert isinstance(option, system.Options)
        assert (option.hidden, option.feature_dim) == (OPTIONS.hidden, OPTIONS.feature_dim)
