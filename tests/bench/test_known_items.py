"""A share is of KEEP's lift on the impressions of its part alone."""

from __future__ import annotations

import numpy as np
import pytest

from bench.known_items import BASE, KEEP, STUDENTS, mean_gauc, share
from keep.reproduce.predictions import Predictions


def predicted(*scores: float) -> Predictions:
    """Two users with a click and none on a known item, and the same on a new one."""
    label = np.array([True, False] * 4)
    assert len(scores) == len(label)
    return Predictions(np.repeat([1, 2], 4), np.arange(8), label, np.array(scores))


def test_parts_are_judged_by_their_own_impressions() -> None:
    right, wrong, tied = (2.0, 1.0), (1.0, 2.0), (1.0, 1.0)
    rows = {
        BASE: [predicted(*wrong, *wrong, *wrong, *wrong)],
        KEEP: [predicted(*right, *right, *right, *right)],
        STUDENTS[0]: [
            predicted(*tied, *right, *tied, *right),
            predicted(*right, *right, *right, *right),
        ],
    }
    is_known = np.array([True, True, False, False] * 2)
    known, new = mean_gauc(rows, is_known), mean_gauc(rows, ~is_known)
    assert (known[BASE], known[KEEP]) == (0.0, 1.0)
    assert share(known, STUDENTS[0]) == pytest.approx(0.75)
    assert share(new, STUDENTS[0]) == 1.0
