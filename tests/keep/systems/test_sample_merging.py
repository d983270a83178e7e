"""Sample Merging is Base on all scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keep.systems import base
from keep.systems.sample_merging import SAMPLE_MERGING
from keep.systems.system import fit
from tests.keep.systems.narrow import NARROW, tiny_data


def test_it_is_base_trained_on_the_super_domain_s_days(tmp_path: Path) -> None:
    data = tiny_data(tmp_path)
    options = SAMPLE_MERGING.options(**NARROW)
    ranker = SAMPLE_MERGING.train(data, (3, 4), options, seed=1)
    model = base.make(data, options, seed=1)
    days = [data.super_domain(3), data.super_domain(4)]
    loss = base.click_loss(model, 0)
    assert fit(model.parameters(), days, loss, options, seed=1) == 2 * 13
    samples = data.sub_domain(5)
    assert np.array_equal(ranker.score(samples), base.BaseRanker(model).score(samples))


def test_it_tries_base_s_spread_of_embeddings() -> None:
    spreads = {options.embedding_std for options in SAMPLE_MERGING.grid(base.Options())}
    assert len(spreads) == 3
