"""The comparison on the test day: what is in it, and that the test day's labels are only read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gkc.arrays import F32, I64
from keep.checkpoint import Pretraining
from keep.comparison import evaluate, report
from keep.log import Log
from keep.systems.plugged import Options
from tests.keep.tiny import tiny_log

OPTIONS = Options(feature_dim=4, hidden=(12, 6), batch_size=32)


def made_up(users: I64, items: I64, categories: I64) -> F32:
    return np.stack([users % 7, items % 5, categories], axis=1).astype(np.float32)


def test_six_rankings_with_a_lift_for_each_model_over_the_same_seed(
    log: Log, state: Pretraining
) -> None:
    results = evaluate(log, state, made_up, (4,), 5, seeds=(1, 2), options=OPTIONS)
    assert [len(result.gauc) for result in results] == [1, 1, 2, 2, 2, 2]
    assert [len(result.lifts) for result in results] == [0, 0, 0, 2, 2, 2]
    base = results[2]
    for result in results[3:]:
        lifts = [one.value - other.value for one, other in zip(result.gauc, base.gauc, strict=True)]
        np.testing.assert_allclose(result.lifts, lifts)
    text = report(results)
    assert all(result.name in text for result in results)
    assert "mean of 2 seeds" in text
    assert f"{results[0].gauc[0].users_left_out} users of one class are left out" in text


def test_the_test_day_s_labels_change_no_score(
    log: Log, state: Pretraining, tmp_path: Path
) -> None:
    flipped = tiny_log(tmp_path / "flipped", flip_from=5)
    straight = evaluate(log, state, made_up, (4,), 5, options=OPTIONS)
    turned = evaluate(flipped, state, made_up, (4,), 5, options=OPTIONS)
    # Equal scores with every label turned round: each AUC becomes its complement.
    for one, other in zip(straight, turned, strict=True):
        assert one.value + other.value == pytest.approx(1.0), one.name
