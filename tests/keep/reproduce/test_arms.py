"""Knowledge joins a model that goes on training."""

from __future__ import annotations

import numpy as np
import pytest

from keep.atomic import write_json
from keep.reproduce.arms import ARMS, Arm, compared
from keep.reproduce.predictions import read_predictions
from keep.reproduce.workshop import PretrainingPlan, Workshop
from tests.keep.systems.narrow import NARROW
from tests.keep.tiny import CONFIG, tiny_log


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    path = tmp_path_factory.mktemp("arms")
    shop = Workshop(tiny_log(path / "log").path, path / "out", CONFIG.behaviours)
    shop.pretrain(PretrainingPlan("trial", ("teacher",), CONFIG))
    write_json(shop.out / "work" / "chosen.json", {"base": NARROW, "keep": NARROW})
    for arm in ARMS:
        Arm(arm, 1, "trial").do(shop)
    return shop


def test_every_arm_ranks_the_day_after_the_version(shop: Workshop) -> None:
    rows = compared(shop.out, (1,), "trial")
    assert [row["name"] for row in rows] == list(ARMS)
    assert rows[0]["lift"] == 0.0
    assert len({row["gauc"][0] for row in rows}) == len(ARMS)
    found = read_predictions(Arm("add", 1, "trial").file(shop.out))
    day = shop.log.day(4)
    assert (found.user == day.user[day.sub_domain]).all()


def test_adding_starts_where_the_checkpoint_is_and_concatenating_does_not(shop: Workshop) -> None:
    first = shop.data(4).sub_domain(4)
    order = np.random.default_rng([1, 4]).permutation(len(first))[: NARROW["batch_size"]]
    scores = {arm: read_predictions(Arm(arm, 1, "trial").file(shop.out)).score for arm in ARMS}
    alone = scores["no knowledge"][order]
    assert abs(scores["add"][order] - alone).max() < 1e-6
    for arm in ("concat, W kept", "concat, first layer anew"):
        assert abs(scores[arm][order] - alone).max() > 1e-3
