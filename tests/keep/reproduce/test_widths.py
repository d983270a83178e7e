"""Widths of the students' vectors, held side by side on the tuning day."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from keep.atomic import write_json
from keep.config import DistillationConfig
from keep.reproduce import widths
from keep.reproduce.pool import Job
from keep.reproduce.widths import WIDTHS, Width, WidthComparison, good_enough
from keep.reproduce.workshop import PretrainingPlan, Workshop
from tests.keep.systems.narrow import NARROW
from tests.keep.tiny import CONFIG, tiny_log

SOME = (Width("shared", 1), Width("task", 0))
WAY = Width("task", 0, "hidden 1")
SHORT: dict[str, Any] = {"pairs_per_user": 2, "most_steps": 5}


def test_there_are_ten_widths_of_the_default_settings() -> None:
    found = {(width.of(CONFIG).dim, width.of(CONFIG).category_dim) for width in WIDTHS}
    assert found == {(dim, 3 * each) for dim in (8, 24) for each in (1, 8, 16, 32)}
    assert len(WIDTHS) == len({width.distilled for width in WIDTHS}) == 10


def test_the_fewest_bytes_that_lose_little_are_good_enough() -> None:
    assert good_enough([0.6, 0.6095, 0.61]) == 1
    assert good_enough([0.7, 0.6095, 0.61]) == 0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    path = tmp_path_factory.mktemp("widths")
    log = tiny_log(path / "log", pretrain_until=2)
    shop = Workshop(log.path, path / "out", CONFIG.behaviours)
    shop.pretrain(PretrainingPlan("trial", ("teacher",), CONFIG))
    plug_ins = {"both_logits": NARROW, "teacher_logits": NARROW}
    chosen = {"base": NARROW, "keep": NARROW, "plug-ins": plug_ins}
    write_json(shop.out / "work" / "chosen.json", chosen)
    return shop


def test_every_width_has_its_bytes_and_its_share(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widths, "WIDTHS", SOME)
    monkeypatch.setattr(widths, "WAYS", (WAY,))
    monkeypatch.setattr(widths, "DistillationConfig", partial(DistillationConfig, **SHORT))
    comparison = WidthComparison(CONFIG, "trial", (1,))
    assert len(comparison.pretrainings()) == 4
    jobs: list[Job] = [
        *comparison.pretrainings(),
        *comparison.distillations(),
        *comparison.rankings(shop.out),
    ]
    for job in jobs:
        job.do(shop)
        assert job.file(shop.out).exists()
    taught = [shop.state(each.distilled).distillation for each in (SOME[1], WAY)]
    assert [each and each.settings["hidden_weight"] for each in taught] == [0.0, 1.0]
    table = comparison.table(shop.out)
    narrow, wide = table["rows"]
    assert (narrow["dim"], narrow["category_dim"]) == (8, 3)
    assert (wide["dim"], wide["category_dim"]) == (24, 24)
    pairs = 5  # every user is paired with every category
    assert narrow["bytes_per_user"] == 2 * (8 + 3 * pairs)
    assert wide["bytes_per_user"] == 2 * (24 + 24 * pairs)
    assert len(table["base"]) == len(table["teacher"]) == len(narrow["gauc"]) == 1
    lift = narrow["gauc"][0] - table["base"][0]
    np.testing.assert_allclose(narrow["lift"], lift, atol=2e-6)
    assert table["good_enough"] in (0, 1)


def test_the_teacher_s_and_the_students_own_weights_are_put_together(shop: Workshop) -> None:
    width = SOME[0]
    for job in WidthComparison(CONFIG, "trial", (1,)).pretrainings():
        job.do(shop)
    state = widths.assembled(shop, width, "trial")
    assert state.config == width.of(CONFIG)
    for name, model in zip(("trial", *width.pretrainings), state.models.trained, strict=True):
        own = shop.state(name).models.get_submodule(model).state_dict()
        found = state.models.get_submodule(model).state_dict()
        assert all(found[weight].equal(own[weight]) for weight in own)
