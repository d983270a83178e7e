"""The user's id, and it alone, is what this Base sees beside the other one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from keep.systems.base_with_user import BASE_WITH_USER, Options
from tests.keep.systems.narrow import NARROW, tiny_data


def test_users_with_the_same_behaviours_are_told_apart(tmp_path: Path) -> None:
    data = tiny_data(tmp_path)
    ranker = BASE_WITH_USER.train(data, (1, 2, 3, 4), Options(**NARROW, user_dim=4), seed=1)
    samples = data.sub_domain(5)
    alike = dataclasses.replace(samples, history=np.zeros_like(samples.history))
    one, other = (
        dataclasses.replace(
            alike, rows=dataclasses.replace(alike.rows, user=np.full(len(alike), user))
        )
        for user in (2, 3)
    )
    assert not np.array_equal(ranker.score(one), ranker.score(other))
    with torch.no_grad():
        ranker.model.user.weight.zero_()
    assert np.array_equal(ranker.score(one), ranker.score(other))
