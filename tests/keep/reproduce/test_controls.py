"""What the compared systems are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keep.popularity import popularity
from keep.reproduce.controls import CONTROLS
from keep.reproduce.workshop import Workshop
from keep.sources.simulator import SimulatorConfig, simulate


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    config = SimulatorConfig(users=20, items=30, categories=4, days=5, impressions_per_day=200)
    simulate(config, 1, tmp_path / "log", lambda amount: None)
    return Workshop(tmp_path / "log", tmp_path / "out", behaviours=5)


def test_the_item_rate_and_the_oracle_are_scored_without_chance(shop: Workshop) -> None:
    day = shop.log.info.test_day
    test = shop.data(day).sub_domain(day)
    rate, truth = (CONTROLS[name].score(shop, 1, test) for name in ("item_rate", "oracle"))
    np.testing.assert_array_equal(rate, popularity(shop.log, shop.version_day, test.day))
    np.testing.assert_array_equal(truth, shop.truth(test))
    assert [name for name, control in CONTROLS.items() if control.has_seed] == ["teacher"]
