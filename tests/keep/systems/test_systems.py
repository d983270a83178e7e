"""What systems promise that take nothing beside the log, and the size of every system's grid.

A new system that learns from all scenes joins ``MERGING``, one that learns from the sub-domain is
named beside ``BASE``. Those that take something (BERT4Rec, S3-Rec, KEEP, KEEP-C) are held to the
same promises in files of their own, with what they take; what is a system's own is in its file too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keep.data import Data
from keep.gauc import gauc
from keep.reproduce.presets import PRESETS, VARIANTS
from keep.reproduce.verdicts import TRIALS
from keep.systems.base import BASE
from keep.systems.base_with_user import BASE_WITH_USER
from keep.systems.conet import CONET
from keep.systems.darec import DAREC
from keep.systems.plugged import Plugged
from keep.systems.registry import SYSTEMS
from keep.systems.sample_merging import SAMPLE_MERGING
from keep.systems.system import System
from tests.keep.systems.narrow import NARROW, OPTIONS, plain_data, tiny_data

AnySystem = System[Any, Any, Any]
MERGING = (SAMPLE_MERGING, CONET, DAREC)
"""Systems that learn from all scenes."""
systems = pytest.mark.parametrize("system", [BASE, BASE_WITH_USER, *MERGING])


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return tiny_data(tmp_path)


@systems
def test_every_label_of_the_test_day_turned_round_changes_no_score(
    system: AnySystem, tmp_path: Path, data: Data
) -> None:
    flipped = tiny_data(tmp_path, flip_from=5)
    assert not np.array_equal(flipped.sub_domain(5).day.click, data.sub_domain(5).day.click)
    scores = [
        system.train(given, (3, 4), system.options(**NARROW), seed=1).score(given.sub_domain(5))
        for given in (data, flipped)
    ]
    assert np.array_equal(scores[0], scores[1])


@systems
def test_labels_of_the_training_days_do_change_them(
    system: AnySystem, tmp_path: Path, data: Data
) -> None:
    flipped = tiny_data(tmp_path, flip_from=4)
    scores = [
        system.train(given, (4,), system.options(**NARROW), seed=1).score(data.sub_domain(5))
        for given in (data, flipped)
    ]
    assert not np.array_equal(scores[0], scores[1])


@systems
def test_the_seed_fixes_the_scores(system: AnySystem, data: Data) -> None:
    samples = data.sub_domain(5)
    first, again, other = (
        system.train(data, (4,), system.options(**NARROW), seed).score(samples)
        for seed in (1, 1, 2)
    )
    assert first.shape == (len(samples),)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@systems
def test_conversion_is_learned_from_clicks(system: AnySystem, data: Data) -> None:
    options = system.options(**{**NARROW, "batch_size": 8})
    ranker = system.train(data, (1, 2, 3, 4), options, seed=1, task=1)
    scores = ranker.score(data.sub_domain(5).of_task(1))
    assert (1 / (1 + np.exp(-scores))).mean() == pytest.approx(0.3, abs=0.08)  # half that, of all


@systems
def test_it_learns_taste(system: AnySystem, tmp_path: Path) -> None:
    data = plain_data(tmp_path)
    samples = data.sub_domain(5)
    options = system.options(**{**NARROW, "batch_size": 16})
    scores = system.train(data, (1, 2, 3, 4), options, seed=1).score(samples)
    assert gauc(samples.day.user, samples.day.click, scores).value > 0.7


@pytest.mark.parametrize("system", MERGING)
def test_grid_has_twelve_options_that_keep_base_s_other_settings(system: AnySystem) -> None:
    options = system.grid(OPTIONS)
    assert len(set(options)) == 12
    assert len({(option.batch_size, option.learning_rate) for option in options}) == 4
    for option in options:
        assert isinstance(option, system.options)
        assert (option.hidden, option.feature_dim) == (OPTIONS.hidden, OPTIONS.feature_dim)


def test_every_system_has_as_many_trials_as_the_others() -> None:
    full = PRESETS["full"]
    left = full.trials - full.pretraining_trials - full.student_trials
    assert full.student_trials == len(VARIANTS)
    tried = {name: len(set(system.grid(OPTIONS))) for name, system in SYSTEMS.items()}
    assert full.trials == TRIALS
    assert tried == {
        name: left if system.takes is Plugged else full.trials for name, system in SYSTEMS.items()
    }


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_spares_are_options_that_are_not_in_the_grid(system: AnySystem) -> None:
    spares = system.spares(OPTIONS)
    assert len(set(spares)) == len(spares) >= 3
    assert not {*spares} & {*system.grid(OPTIONS)}
