"""One pass in day order, scoring, and how chance is fixed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gkc.arrays import I64
from keep.data import Data, Samples
from keep.systems import base
from keep.systems.system import (
    Training,
    fit,
    fit_progressively,
    inputs,
    labels,
    score,
    seeded,
)
from tests.keep.systems.narrow import OPTIONS, tiny_data


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return tiny_data(tmp_path)


class Recorder:
    """A loss that notes what it is shown; its minimum is at 1."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.zeros(3))
        self.shown: list[tuple[int, I64]] = []

    def __call__(self, samples: Samples, positions: I64) -> Tensor:
        self.shown.append((samples.number, positions))
        return ((self.weight - 1.0) ** 2).sum()

    def of_day(self, number: int) -> I64:
        return np.concatenate([positions for day, positions in self.shown if day == number])


def run(data: Data, seed: int = 0) -> tuple[Recorder, int]:
    recorder = Recorder()
    training = Training(batch_size=64, learning_rate=0.01)
    days = data.super_domains((3, 4))
    return recorder, fit([recorder.weight], days, recorder, training, seed)


def test_one_pass_shows_each_impression_once_in_day_order(data: Data) -> None:
    recorder, steps = run(data)
    assert steps == len(recorder.shown) == 2 * 7
    assert [number for number, _ in recorder.shown] == [3] * 7 + [4] * 7
    assert [len(positions) for _, positions in recorder.shown] == 2 * ([64] * 6 + [16])
    for number in (3, 4):
        shown = recorder.of_day(number)
        assert np.array_equal(np.sort(shown), np.arange(400))
        assert not np.array_equal(shown, np.arange(400))


def test_the_seed_fixes_the_order_and_each_day_has_its_own(data: Data) -> None:
    first, again, other = run(data)[0], run(data)[0], run(data, seed=1)[0]
    assert np.array_equal(first.of_day(3), again.of_day(3))
    assert torch.equal(first.weight, again.weight)
    assert not np.array_equal(first.of_day(3), other.of_day(3))
    assert not np.array_equal(first.of_day(3), first.of_day(4))


def test_steps_are_adam_s(data: Data) -> None:
    recorder, steps = run(data)
    weight = nn.Parameter(torch.zeros(3))
    adam = torch.optim.Adam([weight], lr=0.01)
    for _ in range(steps):
        adam.zero_grad()
        loss = ((weight - 1.0) ** 2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    torch.testing.assert_close(recorder.weight, weight)


def test_scores_do_not_depend_on_how_they_are_batched(data: Data) -> None:
    samples = data.super_domain(5)

    def logits(part: Samples, positions: I64) -> Tensor:
        assert torch.is_inference_mode_enabled()
        return torch.from_numpy(part.day.item[positions].astype(np.float32))

    whole = score(samples, logits)
    assert whole.dtype == np.float32
    assert np.array_equal(whole, samples.day.item)
    assert np.array_equal(score(samples, logits, batch_size=7), whole)


def test_a_seed_fixes_weights_and_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn = []
    for seed in (1, 1, 2):
        with seeded(seed):
            drawn.append(nn.Linear(4, 3).weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.rand(3), expected)


def test_inputs_and_labels_are_of_the_impressions_asked_for(data: Data) -> None:
    samples = data.super_domain(4)
    positions = np.array([7, 0, 399])
    items, behaviours = inputs(samples, positions)
    assert items.tolist() == samples.rows.item[positions].tolist()
    assert behaviours.tolist() == samples.behaviours(positions).tolist()
    assert (items.dtype, behaviours.dtype) == (torch.int64, torch.int64)
    clicked = samples.of_task(2)
    chosen = np.arange(0, len(clicked), 3)
    found = labels(clicked, chosen, task=2)
    assert found.dtype == torch.float32
    assert found.tolist() == clicked.day.cart[chosen].tolist()


def test_each_batch_of_a_day_is_scored_before_it_is_learned(data: Data, tmp_path: Path) -> None:
    first = np.random.default_rng([1, 5]).permutation(200)[: OPTIONS.batch_size]

    def logits(model: base.Base, samples: Samples, positions: I64) -> Tensor:
        scores: Tensor = model(*inputs(samples, positions))
        return scores

    found = []
    for given in (data, tiny_data(tmp_path / "flipped", flip_from=5)):
        samples = given.super_domain(5).where(np.arange(400) < 200)
        model = base.make(given, OPTIONS, 1)
        with torch.inference_mode():
            untouched = logits(model, samples, np.arange(200)).numpy()
        step = partial(logits, model)
        found.append(fit_progressively(model.parameters(), samples, step, OPTIONS, 1))
        np.testing.assert_allclose(found[-1][first], untouched[first], rtol=1e-5, atol=1e-6)
        assert (np.abs(found[-1] - untouched) > 1e-4).sum() > 100  # of later batches
    assert np.array_equal(found[0][first], found[1][first])
    assert not np.allclose(found[0], found[1])
