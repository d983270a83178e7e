"""KEEP: knowledge reaches Base through the plug-in, and only through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gkc.arrays import F32
from keep.data import Data, Samples
from keep.gauc import gauc
from keep.plugin import PlugIn
from keep.systems import base
from keep.systems.base import BASE
from keep.systems.plugged import KEEP, Options, Plugged, plug_into
from tests.keep.systems.narrow import NARROW, OPTIONS, tiny_data

NARROW_KEEP = Options(**NARROW, plug_in_hidden=8)


def telling(samples: Samples) -> F32:
    """Knowledge that holds the label, beside a column of noise."""
    noise = np.random.default_rng(samples.number).normal(size=len(samples))
    return np.stack([samples.day.click, noise], axis=1).astype(np.float32)


def silent(samples: Samples) -> F32:
    """Knowledge that tells nothing: it does not vary."""
    return np.ones((len(samples), 2), dtype=np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return tiny_data(tmp_path_factory.mktemp("log"))


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"after_activation": True},
        {"layer": 2},
        {"layer": 2, "after_activation": True},
        {"plugging": "concat"},
        {"plugging": "concat anew", "layer": 2},
    ],
    ids=str,
)
def test_what_knowledge_tells_is_learned(data: Data, place: dict[str, Any]) -> None:
    options = Options(**NARROW, **place)
    ranker = KEEP.train(data, (1, 2, 3, 4), options, 1, side_input=Plugged(telling))
    test = data.sub_domain(5)
    assert gauc(test.day.user, test.day.click, ranker.score(test)).value > 0.9
    mute = ranker.score(test, silent)
    assert gauc(test.day.user, test.day.click, mute).value < 0.8


def test_base_starts_as_it_does_alone(data: Data) -> None:
    still = Options(**{**NARROW, "learning_rate": 1e-30})
    ranker = KEEP.train(data, (4,), still, 1, side_input=Plugged(silent))
    alone = base.make(data, OPTIONS, 1)
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(ranker.model.state_dict()[name], tensor)


def test_knowledge_that_does_not_vary_in_training_changes_nothing_later(data: Data) -> None:
    ranker = KEEP.train(data, (4,), NARROW_KEEP, 1, side_input=Plugged(silent))
    test = data.sub_domain(5)
    assert np.array_equal(ranker.score(test), ranker.score(test, telling))


def test_a_trained_base_is_gone_on_with_and_left_as_it_is(data: Data) -> None:
    start = BASE.train(data, (1, 2), OPTIONS, 1).model
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    ranker = KEEP.train(data, (4,), NARROW_KEEP, 1, side_input=Plugged(telling, start))
    for name, tensor in start.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not torch.equal(ranker.model.state_dict()["mlp.0.weight"], before["mlp.0.weight"])
    assert list(start.state_dict()) == list(ranker.model.state_dict())


def test_knowledge_is_read_once_for_each_day(data: Data) -> None:
    asked: list[int] = []

    def counted(samples: Samples) -> F32:
        asked.append(samples.number)
        return silent(samples)

    KEEP.train(data, (3, 4), NARROW_KEEP, 1, side_input=Plugged(counted)).score(data.sub_domain(5))
    assert asked == [3, 4, 5]


def test_every_label_of_the_test_day_turned_round_changes_no_score(
    data: Data, tmp_path: Path
) -> None:
    def of_ids(samples: Samples) -> F32:
        return np.stack([samples.day.user % 7, samples.day.item % 5], axis=1).astype(np.float32)

    flipped = tiny_data(tmp_path, flip_from=5)
    scores = [
        KEEP.train(given, (3, 4), NARROW_KEEP, 1, side_input=Plugged(of_ids)).score(
            given.sub_domain(5)
        )
        for given in (data, flipped)
    ]
    assert np.array_equal(scores[0], scores[1])


def test_the_grid_leaves_six_of_twelve_trials_to_pretraining() -> None:
    options = KEEP.grid(base.Options(embedding_std=0.2))
    assert len(set(options)) == 6
    assert {one.embedding_std for one in options} == {0.2}


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ({"layer": 3}, "layer 3 is none of Base's 2 hidden ones"),
        ({"plugging": "concat", "after_activation": True}, "after_activation is of add alone"),
    ],
)
def test_a_place_that_base_does_not_have_is_refused(place: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Options(**NARROW, **place)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2])
def test_the_place_is_a_layer_s_output_or_its_relu_s(data: Data, number: int, after: bool) -> None:
    model = base.make(data, OPTIONS, 1)
    options = Options(**NARROW, layer=number, after_activation=after)
    plug_in = plug_into(model, 2, options)
    assert isinstance(plug_in, PlugIn)
    torch.nn.init.constant_(plug_in.output.bias, -1000.0)
    plug_in.feed(torch.zeros(8, 2))
    found = model.mlp[: 2 * number](torch.ones(8, model.interaction_width))
    assert (found < -900).all() if after else (found == 0).all()
