"""The downstream model: shapes, learning, and the plug-in in place."""

from __future__ import annotations

import numpy as np
import torch

from keep.downstream import (
    Downstream,
    DownstreamConfig,
    Samples,
    make_samples,
    score_downstream,
    train_downstream,
)
from keep.features import Features
from keep.gauc import gauc
from keep.models import set_item_tables, table_sizes
from keep.plugin import PlugIn
from tests.keep.tiny import tiny_days

CONFIG = DownstreamConfig(feature_dim=4, attention_width=4, hidden=(12, 6), batch_size=64)


def prepared() -> tuple[Features, list[Samples]]:
    features, samples = Features(CONFIG.behaviours), []
    for day in list(tiny_days().values())[:3]:
        features.grow(day)
        samples.append(make_samples(features.encode(day), features))
        features.observe(day)
    return features, samples


def made(features: Features) -> Downstream:
    torch.manual_seed(0)
    model = Downstream(table_sizes(features), CONFIG)
    set_item_tables(model.features, features)
    return model


def test_samples_carry_the_behaviours_of_earlier_days_and_the_click() -> None:
    _, samples = prepared()
    day = tiny_days()[1]
    assert (samples[0].behaviours == 0).all()
    assert (samples[1].behaviours != 0).any()
    assert np.array_equal(samples[0].label, day.click.astype(np.float32))


def test_one_pass_takes_a_step_per_batch_and_is_reproducible() -> None:
    features, samples = prepared()
    scores = []
    for _ in range(2):
        model = made(features)
        assert train_downstream(samples, model, CONFIG) == 3 * 7
        scores.append(score_downstream(samples[0], model, batch_size=90))
    assert scores[0].shape == (400,)
    assert np.array_equal(scores[0], scores[1])


def test_knowledge_of_the_label_is_learned_through_the_plug_in() -> None:
    features, samples = prepared()
    rng = np.random.default_rng(0)
    knowledge = [
        np.stack([day.label, rng.normal(size=len(day))], axis=1).astype(np.float32)
        for day in samples
    ]
    model = made(features)
    plug_in = PlugIn(2, CONFIG.hidden[0], hidden=16)
    plug_in.standardise(torch.from_numpy(np.concatenate(knowledge[:2])))
    plug_in.attach(model.mlp[0])
    train_downstream(samples[:2] * 8, model, CONFIG, plug_in, knowledge[:2] * 8)
    scores = score_downstream(samples[2], model, plug_in, knowledge[2])
    users = tiny_days()[3].user
    assert gauc(users, samples[2].label.astype(np.bool_), scores).value > 0.95


def test_zero_start_means_that_a_plug_in_changes_no_first_score() -> None:
    features, samples = prepared()
    model = made(features)
    before = score_downstream(samples[2], model)
    plug_in = PlugIn(3, CONFIG.hidden[0])
    plug_in.attach(model.mlp[0])
    knowledge = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    assert np.array_equal(score_downstream(samples[2], model, plug_in, knowledge), before)
